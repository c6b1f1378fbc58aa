"""Code of the ranks in tests of deterministic kernels."""

import torch
from helpers.folders import Folders
from ranks.model_bodies import load_chunks
from ranks.training_bodies import Trained, new_row_range, note, state

from nemo_adapt import devices
from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases
from nemo_adapt.machine import cuda_environment
from nemo_adapt.train import loop
from nemo_adapt.train.batches import BatchLayout, Boundaries


def train(rank: int, config: Config, folders: Folders, vocab: int) -> Trained:
    """Train all phases on random tokens with deterministic kernels."""
    cuda_environment.set_up(config.parallel, deterministic=True)
    devices.use_deterministic_kernels()
    try:
        assert torch.are_deterministic_algorithms_enabled()
        chunks, train = load_chunks(config, folders), config.train
        assert chunks[0].config.deterministic_mode
        made = torch.Generator().manual_seed(7)
        ids = [torch.randint(vocab, (train.seq_length + 1,), generator=made) for _ in range(6 * train.global_batch)]
        samples = [{"tokens": each[:-1], "labels": each[1:]} for each in ids]
        token_bytes = torch.ones(vocab, dtype=torch.int32, device=devices.best_device())
        layout = BatchLayout(train.global_batch, train.micro_batch, 1, 0)
        data = loop.TrainingData(samples, layout, token_bytes, Boundaries.of(train, vocab - 1))
        answer = Trained(states=[state(chunks)])
        for step in loop.run(chunks, phases(config), train, new_row_range(folders), data):
            note(answer, step)
        answer.states.append(state(chunks))
        return answer
    finally:
        torch.use_deterministic_algorithms(False)
