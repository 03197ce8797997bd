import pytest
import torch
from torchvision.models import vgg16


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory):
    """A file in the layout of torchvision's VGG16 weights, with random convolutions."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in vgg16().features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {
        f"features.{name}": torch.randn(shape, generator=generator) / max(1, sum(shape[1:]) * 4) ** 0.5
        for name, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(state, path)
    return path
