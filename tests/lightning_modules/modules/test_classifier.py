"""A batch in parts, and a rate that waits for the validation error."""

from dataclasses import replace

import pytest
import torch

from lightning_modules.distributed import DataParallelRank
from lightning_modules.modules.lr_schedule import Plateau, learning_rate_factor
from lightning_modules.modules.trainable import make_trainable
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.setup import Setup


def gradients(setup, microbatch):
    """Of one batch of 20, by place, with the loss and error that were counted."""
    setup = replace(setup, recipe=replace(setup.recipe, microbatch=microbatch))
    module = make_trainable(setup, seed=0).module
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(20, 1, 32, 32, generator=random), torch.arange(20) % 10
    torch.manual_seed(0)  # of dropout
    module.accumulate_gradients(images, labels)
    module.metrics.count_step(len(labels))
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    return found, (module.metrics.mean_loss, module.metrics.error, module.metrics.num_examples)


def without_dropout(setup):
    return replace(setup, network=replace(setup.network, head=replace(setup.network.head, dropout=0.0)))


@pytest.mark.parametrize("microbatch", [1, 6, 10, 20])
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(small, microbatch):
    whole, counted = gradients(without_dropout(small), 0)
    parts, counted_in_parts = gradients(without_dropout(small), microbatch)
    for name, gradient in whole.items():
        # Terms cancel, in an order that depends on the CPU's kernels: 1.07e-7 was seen where a gradient is about zero.
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6)
    assert counted_in_parts == pytest.approx(counted, rel=1e-5)
    assert counted[2] == 20


def test_a_batch_that_is_one_part_gives_the_bits_of_the_whole(small):
    whole, part = (gradients(small, microbatch)[0] for microbatch in (0, 64))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_several_workers_take_no_parts_of_a_batch(small):
    setup = replace(small, recipe=replace(small.recipe, microbatch=8))
    with pytest.raises(UserError, match=r"Recipe.microbatch is 8, and 2 workers .* Give --workers-per-trial 1, or"):
        make_trainable(setup, seed=0, dp_rank=DataParallelRank(rank=0, world_size=2))


def test_a_rate_is_divided_after_so_many_epochs_without_a_lower_error_and_three_times_at_most():
    plateau, divided = Plateau(patience=2), []
    for epoch, error in enumerate([50, 40, 41, 40, 39, 39.5, 39.2, 38, *[60] * 9]):
        if plateau.observe_error(error):
            plateau.count_division()
            divided.append(epoch)
    assert divided == [3, 6, 9]
    assert plateau.divisions == 3


def test_the_factor_of_a_plateau_is_a_tenth_per_division_after_the_warm_up():
    recipe = Recipe(schedule="plateau", warmup=0.1)
    assert learning_rate_factor(recipe, 4, 100) == 0.5
    assert [learning_rate_factor(recipe, 50, 100, divisions) for divisions in range(3)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("field", "text"), [("patience", "1 epoch or more"), ("microbatch", r"0 \(the whole batch at once\) or more")]
)
def test_a_negative_number_is_refused(field, text):
    with pytest.raises(InvalidValue, match=f"Recipe.{field} is -1; expected {text}"):
        Recipe(**{field: -1})


def test_the_recipe_of_the_paper_is_the_protocols():
    from studies import protocols

    setup: Setup = protocols.load("imagenet").setup
    recipe = setup.recipe
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.learning_rate) == (256, 0.9, 5e-4, 0.01)
    assert (recipe.epochs, recipe.schedule, recipe.augmentation) == (74, "plateau", "crop-flip-colour")
    assert round(recipe.side_from * 224) == round(recipe.side_to * 224) == 256
    assert setup.network.head.dropout == 0.5
    residual = protocols.load("imagenet").setup_for("ResNet").recipe
    assert (round(residual.side_from * 224), round(residual.side_to * 224)) == (256, 480)
    assert (residual.learning_rate, residual.weight_decay) == (0.1, 1e-4)
