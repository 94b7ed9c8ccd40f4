"""The experiment's table and plots."""

import json


def result(size, arm, seed, bleu, pairs=1000):
    metrics = {"bleu": bleu, "chrf": 2 * bleu, "tokenised_bleu": bleu + 1}
    scores = {name: {"value": value, "signature": f"s:{name}"} for name, value in metrics.items()}
    return {
        **{"name": f"{size}_{arm}_seed{seed}", "size": size, "arm": arm, "seed": seed},
        **{"pairs": pairs, "parameters": 2_400_000, "minutes": 10.0, "features": None},
        **{"device": "CPU", "vocabulary": 2000, "versions": {"torch": "2"}, "teacher": None},
        **{"scores": {"test_2016_flickr": scores}, "validation_bleu": [[1, bleu]]},
        "asked": f"--sizes {size} --arms {arm}",
        "commands": ["fairseq-train data --seed 1", f"fairseq-train data --seed {seed}"],
    }


def test_a_row_has_mean_and_spread_and_p_of_every_seed(script):
    table = script("results_table")
    results = [result("1k", "kd", 2, 22.0), result("1k", "kd", 1, 20.0)]
    results += [result("5k", "text", 1, 30.0, 5000), result("1k", "text", 1, 10.0)]
    results[2]["commands"][-1] += " --decoder-input-feeding"
    results[0]["commands"][0] += " --decoder-input-feeding"  # its teacher
    comparison = {"size": "1k", "seed": 2, "test_set": "test_2016_flickr", "baseline": "text"}
    entry = {**comparison, "system": "kd", "bleu": {"difference": 12.0, "p": 0.001}}
    lines = table.markdown(results, [entry], "python x.py").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:5]]
    assert [row[:4] for row in cells[2:]] == [
        ["1k", "1,000", "text only", "1"],
        ["1k", "1,000", "+ distillation", "2"],
        ["5k", "5,000", "text only", "1"],
    ]
    assert cells[3][4:7] == ["21.0 ± 1.4", "42.0 ± 2.8", "-, 0.001"]
    assert cells[2][4:7] == ["10.0", "20.0", ""]
    assert cells[3][-1] == "`--sizes 1k --arms kd --seeds 1 2`"
    assert "BLEU: `s:bleu`." in lines
    assert "Input feeding, which no other cross_modal_rnn here has: 5k, text only." in lines


def test_p_of_a_pair_that_was_compared_the_other_way_round(script):
    table = script("results_table")
    results = [result("1k", "text", 1, 10.0), result("1k", "lstm", 1, 9.0)]
    entry = {"size": "1k", "seed": 1, "test_set": "test_2016_flickr", "bleu": {"p": 0.25}}
    pairs = [("lstm", "text"), ("text", "lstm")]
    for baseline, system in pairs:
        comparisons = [{**entry, "baseline": baseline, "system": system}]
        text, lstm = table.rows(results)
        assert table.significance(lstm, "test_2016_flickr", comparisons) == "0.250"
        assert table.significance(text, "test_2016_flickr", comparisons) == ""
    assert pairs[0] in script("run_results").COMPARED


def test_seeds_of_other_machines_are_noted(script):
    def notes(**change):
        results = [result("1k", "text", 1, 10.0), {**result("1k", "text", 2, 11.0), **change}]
        lines = script("results_table").markdown(results, [], "python x.py").splitlines()
        return [line for line in lines if "not trained on the same" in line]

    assert notes() == notes(device="CPU, 8 threads") == []
    assert notes(device="Tesla", versions={"torch": "3"}) == [
        "Seeds that were not trained on the same: from 1k_text_seed1 to 1k_text_seed2 torch 2 became "
        "torch 3, the device CPU became Tesla."
    ]


def test_curves_on_different_validation_sets_share_no_axis(script):
    plots = script("results_plots")
    splits = script("multi30k_release").SPLITS
    assert all(splits[name] == prefix for prefix, name in plots.VALIDATION_SETS.items())
    image, both = result("1k", "image", 1, 20.0), result("5k", "caf-dkd", 1, 40.0)
    image["validated_on"] = "valid1"
    both["commands"][-1] += " --valid-subset valid --valid-subset valid1,valid"  # an older JSON
    results = [result("1k", "text", 1, 10.0), image, both, result("5k", "kd", 1, 30.0)]
    results.append(result("10k", "text", 1, 50.0))
    figure = plots.learning_curves(results)
    found = {}
    for axis in figure.axes:
        if axis.get_visible():
            row = axis.get_subplotspec().rowspan.start
            found[row, axis.get_title()] = [line.get_ydata()[0] for line in axis.lines]
    assert found == {
        **{(0, "1k"): [10.0], (0, "5k"): [30.0], (0, "10k"): [50.0]},
        **{(1, "1k"): [20.0], (1, "5k"): [40.0]},
    }
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["BLEU on val, greedy", "BLEU on val_images, greedy"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["text only", "+ image", "+ distillation", "both (CAF-DKD)"]


def test_seeds_that_were_not_trained_alike_are_no_row(script, tmp_path, capsys):
    def write(seed, dropout):
        name = f"1k_text_seed{seed}"
        train = f"fairseq-train \\\n    --dropout {dropout} \\\n    --seed {seed} \\\n    --save-dir {name}"
        run = {**result("1k", "text", seed, 10.0), "commands": ["prepare", train]}
        run["scores"]["test_2016_flickr"]["hypotheses_sha256"] = name
        (tmp_path / f"{name}.json").write_text(json.dumps(run))

    tabulate = script("tabulate_results")
    write(1, 0.3)
    write(2, 0.3)
    assert len(tabulate.read_results(tmp_path)[0]) == 2
    write(2, 0.4)
    assert tabulate.main(["--results", str(tmp_path)]) == 1
    assert "1k_text_seed1 and 1k_text_seed2 are not of one experiment: '--dropout 0.3' became" in (
        capsys.readouterr().err
    )


def test_seeds_that_go_on_from_their_own_student_are_a_row(script, tmp_path):
    def training(arm, seed, *options):
        words = ["fairseq-train", *options, f"--seed {seed}", f"--save-dir 1k_{arm}_seed{seed}"]
        return " \\\n    ".join(words)

    def runs(dropout):
        for seed in (1, 2):
            origin = f"1k_text_seed{seed}"
            first = training("text", seed, f"--dropout {dropout if seed == 2 else 0.3}")
            then = training("image", seed, f"--init-from {origin}")
            made = result("1k", "image", seed, 10.0)
            yield {**made, "commands": [first, then], "origin": origin}

    mixture_problems = script("results_table").mixture_problems
    assert mixture_problems(list(runs(0.3))) == []
    assert len(mixture_problems(list(runs(0.4)))) == 1


def test_arms_that_no_plot_shows_have_a_table(script, tmp_path, capsys):
    one = result("1k", "transformer", 1, 10.0)
    one["scores"]["test_2016_flickr"]["hypotheses_sha256"] = "of its translations"
    (tmp_path / "1k_transformer_seed1.json").write_text(json.dumps(one))
    assert script("tabulate_results").main(["--results", str(tmp_path)]) == 0
    assert "the plots are of text, image, kd" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.[ms][dv]*")] == ["table.md"]


def test_a_result_of_an_unknown_arm_is_named(script, tmp_path, capsys):
    path = tmp_path / "1k_parrot_seed1.json"
    path.write_text(json.dumps(result("1k", "parrot", 1, 10.0)))
    assert script("tabulate_results").main(["--results", str(tmp_path)]) == 1
    assert f"error: {path}: experiment.py has no arm parrot" in capsys.readouterr().err


def test_results_of_teachers_alone_are_no_table(script, tmp_path, capsys):
    main = script("tabulate_results").main
    teacher = {**result("full", "teacher", 1, 30.0), "name": "teacher_seed1"}
    (tmp_path / "teacher_seed1.json").write_text(json.dumps(teacher))
    assert main(["--results", str(tmp_path)]) == 1
    assert "has 1 JSONs of models, and none of a student" in capsys.readouterr().err
