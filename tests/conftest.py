import torch

torch.set_num_threads(1)  # as the stages do; and many threads on few cores are slow
