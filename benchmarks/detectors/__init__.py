"""What the detectors see of models with known truth: witnesses of a verdict, and scores of inputs."""
