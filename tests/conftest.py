"""Settings for every test: one thread, and the same hypothesis examples on every run."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same every run", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=2_000)  # pytest --hypothesis-profile=search
settings.load_profile("same every run")
