"""The same classifier, cheaper to ask: one that is differentiated through, down to its input, and never moves.

Knows modules; knows nothing of jobs, files or HTTP.
"""

from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from worker.classifier import Classifier

SAME = 1e-3  # of the largest logit; what another order of the same float32 arithmetic may change


@torch.no_grad()
def frozen(classifier: Classifier, example: Tensor) -> Classifier:
    """Eval mode, no gradients of weights, and each BatchNorm inside the convolution before it.

    Where the graph of a module cannot be traced, or the folded one answers otherwise on `example` (uint8,
    (n, c, h, w)), BatchNorm stays where it is. Takes about two thirds of the time, forward and back (decision 17).
    """
    module = classifier.copy().eval().requires_grad_(requires_grad=False)
    try:
        folded = _fold(fx.symbolic_trace(module))
    except (
        fx.proxy.TraceError,
        AssertionError,
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
    ):  # whatever a foreign forward() makes of a proxy
        return classifier.with_module(module)
    inputs = classifier.normalise(example)
    expected = module(inputs)
    apart = (folded(inputs) - expected).abs().max()
    kept = folded if apart <= SAME * expected.abs().max() else module
    return classifier.with_module(classifier.placement.take(kept))


def _fold(traced: fx.GraphModule) -> fx.GraphModule:
    """Each BatchNorm that is all that follows a convolution, where both are used once."""
    modules = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        norm, convolution = modules[str(node.target)], modules[str(before.target)]
        if not (isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d)):
            continue
        once = calls[node.target] == calls[before.target] == len(before.users) == 1
        if once and norm.running_mean is not None:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.requires_grad_(requires_grad=False)
