import numpy as np
import pytest
from PIL import Image

from caf_dkd_plugin.evaluation.attention_plot import (
    GAP,
    PANEL_SIZE,
    heading,
    plot_attention,
    stack,
    whole_words,
)

TOKENS = ["a", "bat", "."]
GREY = Image.new("RGB", (100, 60), (128, 128, 128))


def centre(plot, panel, row, column, rows, columns):
    """The colour in the middle of a region of a panel."""
    x = GAP + panel * (PANEL_SIZE + GAP) + int(PANEL_SIZE * (column + 0.5) / columns)
    return plot.getpixel((x, GAP + int(PANEL_SIZE * (row + 0.5) / rows)))


def attention(token, region, regions=6):
    weights = np.full((len(TOKENS), regions), 0.1)
    weights[:, -1] = 0.2
    weights[token, region] = 0.5
    return weights


def test_the_strongest_region_is_red_at_its_row_and_column():
    plot = plot_attention(GREY, TOKENS, attention(1, region=5), [1], (2, 3))
    hottest = centre(plot, 1, row=1, column=2, rows=2, columns=3)
    assert hottest[0] > hottest[2]
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        cold = centre(plot, 1, row, column, 2, 3)
        assert cold[2] > cold[0]


def test_one_panel_for_each_token_after_the_plain_picture():
    plot = plot_attention(GREY, TOKENS, attention(1, 0), [1, 2], (2, 3))
    assert plot.width == 3 * (PANEL_SIZE + GAP) + GAP
    assert centre(plot, 0, 0, 0, 2, 3) == (128, 128, 128)
    assert centre(plot, 1, 0, 0, 2, 3) != centre(plot, 2, 0, 0, 2, 3)


def test_a_sentence_without_an_image_keeps_its_picture_plain():
    plot = plot_attention(GREY, TOKENS, np.zeros((3, 6)), [0], (2, 3))
    assert centre(plot, 1, 1, 1, 2, 3) == (128, 128, 128)


def test_the_given_picture_is_left_alone():
    plot_attention(GREY, TOKENS, attention(0, 0), [0], (2, 3))
    assert GREY.size == (100, 60)
    assert GREY.getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("shape", "shown", "message"),
    [
        ((3, 5), [0], r"grid of 2 x 3 regions need attention of shape \(3, 6\), not \(3, 5\)"),
        ((2, 6), [0], r"3 tokens .* not \(2, 6\)"),
        ((3, 6), [3], "no token 3 among 3: a bat ."),
        ((3, 6), [-1], "no token -1 among 3"),
    ],
)
def test_what_does_not_fit_is_refused(shape, shown, message):
    with pytest.raises(ValueError, match=message):
        plot_attention(GREY, TOKENS, np.zeros(shape), shown, (2, 3))


def test_pieces_are_joined_to_words_with_their_mean_attention():
    attention = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    words, joined = whole_words(["▁the", "▁cra", "ne"], attention)
    assert words == ["the", "crane"]
    assert joined.tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_an_unknown_piece_is_no_part_of_the_word_before_it():
    attention = np.eye(5)
    words, joined = whole_words(["▁a", "▁shirt", "<unk>", "▁", "<unk>"], attention)
    assert words == ["a", "shirt", "<unk>", "<unk>"]
    assert joined.tolist() == [*np.eye(5)[:3].tolist(), [0, 0, 0, 0.5, 0.5]]


def test_pieces_of_subword_nmt_are_joined_too():
    attention = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.2, 0.8]])
    words, joined = whole_words(["the", "cra@@", "ne", "@"], attention)
    assert words == ["the", "crane", "@"]
    assert joined.tolist() == [[1.0, 0.0], [0.25, 0.75], [0.2, 0.8]]


def test_words_stay_as_they_are():
    attention = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    words, same = whole_words(TOKENS, attention)
    assert words == TOKENS
    assert same.tolist() == attention.tolist()


def test_a_heading_has_the_width_and_as_many_lines_as_it_needs():
    short, long = heading("a few words", 400), heading("many words " * 20, 400)
    assert short.width == long.width == 400
    assert long.height > 3 * short.height / 2
    assert np.array(long)[:, 400 - GAP :].min() == 255, "nothing runs over the edge"
    assert np.array(short).min() < 50


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Mädchen, Größe, Äpfel, Öl", "Maedchen, Groesse, Aepfel, Oel"),
        ("élève „Jiří“ l\u2019été \u2013 o\u0308", 'eleve "Jiri" l\'ete - o'),
        ("мяч", "???"),
    ],
)
def test_letters_that_the_font_lacks_are_spelled(text, drawn):
    np.testing.assert_array_equal(heading(text, 300), heading(drawn, 300))
    tokens = [[word, "bat", "."] for word in (text, drawn)]
    captions = [plot_attention(GREY, each, np.zeros((3, 6)), [0], (2, 3)) for each in tokens]
    np.testing.assert_array_equal(*captions)


def test_stack_puts_pictures_below_each_other():
    sheet = stack([Image.new("RGB", (10, 5), "red"), Image.new("RGB", (20, 7), "blue")])
    assert sheet.size == (20, 12)
    assert sheet.getpixel((0, 4)) == (255, 0, 0)
    assert sheet.getpixel((19, 5)) == (0, 0, 255)


def test_the_picture_is_drawn_as_the_network_read_it(tmp_path):
    """Turned upright, as all pictures are."""
    picture = Image.new("RGB", (40, 40), "black")
    picture.paste("white", (0, 0, 40, 20))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    picture.rotate(180).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        plot = plot_attention(opened, TOKENS, np.zeros((3, 6)), [], (2, 3))
    assert centre(plot, 0, 0, 1, 2, 3) == (255, 255, 255)
    assert centre(plot, 0, 1, 1, 2, 3) == (0, 0, 0)
