"""What the cross-modal architectures have in common; the underscore keeps fairseq from importing it."""
