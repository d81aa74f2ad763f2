"""Models with known truth: the attacks, the training, and what each model proves to be."""
