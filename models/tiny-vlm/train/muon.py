"""Muon: momentum whose matrices are made orthogonal before they are taken as steps; AdamW for the rest.

Matrices of one shape are stacked, so that a step is a few products of batches.
"""

import torch

ROUNDS = 5


def orthogonal(m):
    """Newton-Schulz towards the nearest orthogonal matrix, for a stack of matrices."""
    x = m.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


class Muon:
    def __init__(self, matrices, rest, rate, decay=0.05, momentum=0.95, compile=False):
        groups = {}
        for p in matrices:
            groups.setdefault(tuple(p.flatten(1).shape), []).append(p)
        self.groups = [(members, torch.zeros(len(members), *shape, device=members[0].device)) for shape, members in groups.items()]
        self.rate, self.decay, self.momentum = rate, decay, momentum
        if compile:
            torch._dynamo.config.recompile_limit = 64  # one kernel a shape
        self.orthogonal = torch.compile(orthogonal, dynamic=False) if compile else orthogonal
        self.adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)

    @torch.no_grad()
    def step(self, share):
        """One step at `share` of the rate."""
        rate = self.rate * share
        for members, state in self.groups:
            gradient = torch.stack([p.grad.flatten(1) for p in members])
            state.lerp_(gradient, 1 - self.momentum)
            step = self.orthogonal(gradient.lerp(state, self.momentum)) * (0.2 * max(state.shape[1:]) ** 0.5)
            for p, s in zip(members, step.unbind()):
                p.mul_(1 - rate * self.decay).sub_(s.view_as(p), alpha=rate)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()

    def zero_grad(self):
        for members, _ in self.groups:
            for p in members:
                p.grad = None
        self.adam.zero_grad(set_to_none=True)
