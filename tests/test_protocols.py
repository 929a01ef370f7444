"""Who trains, who judges and who is retrieved, against slow, obvious versions of the laws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from trainables.data import LabelledImages
from trainables.data.errors import DataError
from trainables.data.fashion_mnist import stratified_split
from trainables.data.partitions import JudgedRows
from trainables.data.protocols import PROTOCOLS, folds, partition
from trainables.data.tables.table import Table


def table(labels: list[str] | np.ndarray, **columns: object) -> Table:
    """A table of an array data set, a row a label."""
    rows = pd.DataFrame({"row": range(len(labels)), "label": list(map(str, labels)), **columns})
    return Table(rows, "a test's array")


def classes(count: int, images: int = 4) -> list[str]:
    return [f"c{number:03}" for number in range(count) for _ in range(images)]


def labels_of(data: Table, rows: np.ndarray) -> set[str]:
    return set(data.rows["label"].to_numpy()[rows])


def test_the_protocols_are_known_by_name() -> None:
    assert list(PROTOCOLS) == ["held_out", "closed"]
    with pytest.raises(DataError, match="one of held_out, closed; got 'open'"):
        partition(table(classes(8)), "open")


@pytest.mark.parametrize("count", [7, 8, 11, 16, 40, 101])
def test_held_out_classes_are_half_for_test_and_a_quarter_of_the_rest(count: int) -> None:
    data = table(classes(count))
    parts = partition(data)
    train, validation, test = (
        labels_of(data, rows) for rows in (parts.train, parts.validation.rows, parts.test.rows)
    )
    rest = count - count // 2
    assert len(test) == count // 2
    assert len(validation) == -(-rest // min(4, rest // 2))  # the first folds have one more
    assert len(train) == rest - len(validation)
    assert not train & validation and not (train | validation) & test
    rows = np.concatenate([parts.train, parts.validation.rows, parts.test.rows])
    assert sorted(rows) == list(range(4 * count))


def test_four_folds_hold_out_each_class_of_the_rest_once() -> None:
    data = table(classes(40))
    parts = [partition(data, folds=4, fold=fold) for fold in range(4)]
    held = Counter(name for one in parts for name in labels_of(data, one.validation.rows))
    assert len({tuple(one.test.queries) for one in parts}) == 1
    assert set(held.values()) == {1} and len(held) == 20
    assert not set(held) & labels_of(data, parts[0].test.rows)
    assert [len(labels_of(data, one.validation.rows)) for one in parts] == [5] * 4
    assert (partition(data).train == parts[0].train).all()  # the default: fold 0 of 4


def test_a_partition_depends_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    names = classes(16)
    rows = pd.DataFrame({"row": range(len(names)), "label": names})
    first = partition(Table(rows, "one"))
    second = partition(Table(rows.sample(frac=1, random_state=3), "two"))
    for one, two in (
        (first.train, second.train),
        (first.validation.gallery, second.validation.gallery),
        (first.test.queries, second.test.queries),
        (first.test.gallery, second.test.gallery),
    ):
        assert one.tolist() == two.tolist()
    other = partition(Table(rows, "one"), seed=1)
    assert other.test.queries.tolist() != first.test.queries.tolist()


def test_a_given_test_set_is_kept_and_validation_is_drawn_from_the_rest() -> None:
    split = ["train"] * 32 + ["test"] * 12
    data = table(classes(11), split=split)
    parts = partition(data)
    assert parts.test.queries.tolist() == list(range(32, 44))
    assert len(labels_of(data, parts.validation.rows)) == 2  # a quarter of 8
    assert set(parts.train) | set(parts.validation.rows) == set(range(32))
    # Another seed draws another validation set, and leaves the test gallery in its order.
    again = partition(data, seed=1)
    assert again.test.gallery.tolist() == parts.test.gallery.tolist()
    assert set(again.validation.rows) != set(parts.validation.rows)


def test_given_validation_classes_are_kept_and_not_folded() -> None:
    split = ["train"] * 8 + ["validation"] * 8 + ["test"] * 8
    data = table(classes(6), split=split)
    parts = partition(data)
    assert sorted(parts.train) == list(range(8))
    assert sorted(parts.validation.queries) == list(range(8, 16))
    for asked in ({"folds": 4}, {"fold": 1}):
        with pytest.raises(DataError, match=r"folds are drawn where .* names 8 images"):
            partition(data, **asked)


def test_seven_classes_are_needed_to_draw_all_and_four_beside_a_test_set() -> None:
    partition(table(classes(7)))
    with pytest.raises(DataError, match=r"at least 7 classes of two images .* got 6"):
        partition(table([*classes(6), "alone"]))
    partition(table(classes(6), split=["train"] * 16 + ["test"] * 8))
    with pytest.raises(DataError, match=r"at least 4 classes of two images .* got 3"):
        partition(table(classes(5), split=["train"] * 12 + ["test"] * 8))


def test_folds_are_within_what_the_classes_allow() -> None:
    data = table(classes(16))
    for count in (0, 1, 5):
        with pytest.raises(DataError, match=f"2 to 4 for 8 classes; got {count}"):
            partition(data, folds=count)
    for fold in (-1, 4):
        with pytest.raises(DataError, match=f"from 0 to 3, of 4 folds; got {fold}"):
            partition(data, folds=4, fold=fold)


def test_folds_deal_classes_of_one_image_evenly_too() -> None:
    labels = np.array([*np.repeat(np.arange(8), 3), *range(8, 20)])
    dealt = folds(labels, 4)
    assert all(len(set(dealt[labels == label])) == 1 for label in range(20))
    for fold in range(4):
        mine = Counter(labels[dealt == fold].tolist())
        assert sorted(mine.values()) == [1, 1, 1, 3, 3]


def test_classes_in_two_parts_are_refused_where_they_are_held_out() -> None:
    split = ["train", "train", "test", "test"] * 2 + ["train"] * 16
    with pytest.raises(DataError, match="share 2 classes, such as 'c000': row 0, row 2"):
        partition(table(classes(6), split=split))


def test_classes_of_one_image_are_left_out_of_training_and_counted() -> None:
    names = [*classes(8), *(f"alone{number}" for number in range(8))]
    data = table(names)
    parts = partition(data)
    alone = {row for row, name in enumerate(names) if name.startswith("alone")}
    judged = set(parts.validation.rows) | set(parts.test.rows)
    assert set(parts.left_out) == alone - judged and len(parts.left_out) == 2
    assert not set(parts.train) & alone
    assert parts.unanswered == {"validation": 2, "test": 4}
    assert alone & judged <= set(parts.validation.gallery) | set(parts.test.gallery)


def test_closed_takes_a_fifth_of_each_class_and_a_tenth_of_the_rest() -> None:
    sizes = [2, 3, 5, 10, 20, 37, 100]
    data = table([f"c{size:03}" for size in sizes for _ in range(size)])
    parts = partition(data, "closed")
    for size in sizes:
        mine = np.flatnonzero(data.rows["label"] == f"c{size:03}")
        test, validation, train = (
            len(set(mine) & set(rows))
            for rows in (parts.test.rows, parts.validation.rows, parts.train)
        )
        assert test == (max(2, round(size / 5)) if size >= 6 else 0)
        assert validation == (max(2, round(0.1 * (size - test))) if size - test >= 6 else 0)
        assert train == size - test - validation > 1


@pytest.mark.parametrize(("each", "judged"), [(4, False), (7, False), (8, True), (12, True)])
def test_closed_can_judge_classes_of_eight_images(each: int, judged: bool) -> None:
    """One image of a class could find no other."""
    data = table([f"c{number}" for number in range(10) for _ in range(each)])
    if not judged:
        with pytest.raises(DataError, match="closed protocol judges classes of 8 images or more"):
            partition(data, "closed")
        return
    parts = partition(data, "closed")
    assert parts.unanswered == {"validation": 0, "test": 0}
    assert len(parts.validation.rows) == len(parts.test.rows) == 20


def test_closed_is_the_stratified_split_row_by_row_and_in_order() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), [25, 100, 35, 50, 61, 19, 45, 80, 16, 15]))
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    split = stratified_split(LabelledImages(images, labels))
    extra = rng.permutation(np.repeat(np.arange(10), 5))
    given = ["train"] * len(labels) + ["test"] * len(extra)
    parts = partition(table(np.concatenate([labels, extra]), split=given), "closed")
    assert parts.train.tolist() == split.train.rows.tolist()
    assert parts.validation.queries.tolist() == split.validation.rows.tolist()
    assert parts.validation.gallery.tolist() == split.validation.rows.tolist()


def test_closed_keeps_a_sequence_of_a_class_together() -> None:
    """Else frames that are nearly equal would train and judge. By loops, of sequences of one to
    five frames, and of some that are alone; a sequence may be of two classes."""
    rng = np.random.default_rng(2)
    names, sequences = [], []
    for label in "abcd":
        for number in range(20):
            frames = int(rng.integers(1, 6))
            names += [label] * frames
            sequences += ["" if frames == 1 else f"s{number}"] * frames
    order = rng.permutation(len(names))
    data = table([names[n] for n in order], sequence=[sequences[n] for n in order])
    for split in (None, ["test" if n % 7 == 0 else "train" for n in range(len(names))]):
        if split is not None:  # what the data says stays: validation alone is drawn
            whole = {(names[n], sequences[n]): split[i] for i, n in enumerate(order)}
            split = [whole[names[n], sequences[n]] for n in order]
            data = table(
                [names[n] for n in order], sequence=[sequences[n] for n in order], split=split
            )
        parts = partition(data, "closed")
        seen: dict[tuple[str, str], set[str]] = {}
        drawn: dict[tuple[str, str], set[object]] = {}
        for part, rows in (
            ("train", parts.train), ("v", parts.validation.rows), ("test", parts.test.rows),
        ):  # fmt: skip
            for row in rows:
                label, sequence = (data.rows[name][row] for name in ("label", "sequence"))
                if sequence:
                    seen.setdefault((label, sequence), set()).add(part)
                drawn.setdefault((label, part), set()).add(sequence or row)
        assert all(len(each) == 1 for each in seen.values())
        assert all(len(drawn[label, part]) >= 2 for label in "abcd" for part in ("train", "v"))
        if split is None:
            assert {len(drawn[label, "test"]) for label in "abcd"} == {4}  # a fifth of twenty
            assert {len(drawn[label, "v"]) for label in "abcd"} == {2}  # a tenth of sixteen
            assert parts.unanswered == {"validation": 0, "test": 0}


def test_closed_judges_no_class_of_few_sequences() -> None:
    many, few = [f"m{n}" for n in range(8) for _ in range(3)], [f"f{n // 8}" for n in range(40)]
    data = table(["a"] * 24 + ["b"] * 24 + ["c"] * 40, sequence=[*many, *many, *few])
    parts = partition(data, "closed")
    for judged in (parts.validation.rows, parts.test.rows):
        assert labels_of(data, judged) == {"a", "b"} and len(judged) == 2 * 2 * 3
    assert set(np.flatnonzero(data.labels == 2)) <= set(parts.train)
    with pytest.raises(DataError, match=r"of 8 sequences or more, .*; the largest has 5 to draw"):
        partition(table(["a"] * 40 + ["b"] * 40, sequence=[*few, *few]), "closed")


def test_closed_refuses_what_it_does_not_train_on() -> None:
    names = [*classes(4), "new", "new"]
    split = ["train", "train", "train", "test"] * 4 + ["test"] * 2
    with pytest.raises(DataError, match=r"'new' has 0, and is judged by .* \(test\)"):
        partition(table(names, split=split), "closed")
    with pytest.raises(DataError, match="two training images or more; 'new' has 1"):
        partition(table(names, split=[*split[:-2], "train", "test"]), "closed")
    with pytest.raises(DataError, match="folds are of the held-out protocol"):
        partition(table(classes(4, 20)), "closed", folds=4)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_single_class_is_refused(protocol: str) -> None:
    with pytest.raises(DataError, match="at least"):
        partition(table(["one"] * 50), protocol)


def test_a_test_set_alone_leaves_nothing_to_train_on() -> None:
    data = table(classes(4), split=["test"] * 16)
    for protocol in PROTOCOLS:
        with pytest.raises(DataError, match=r"at least 4 classes|two training images or more"):
            partition(data, protocol)


def test_the_gallery_is_shuffled_and_a_query_is_left_out_by_index() -> None:
    parts = partition(table(classes(40)))
    for judged in (parts.validation, parts.test):
        assert (np.diff(judged.gallery) < 0).any()
        assert sorted(judged.gallery) == sorted(judged.queries)
        assert (judged.gallery[judged.own] == judged.queries).all()


def test_queries_and_galleries_are_as_the_data_says() -> None:
    split = ["train"] * 16 + ["test"] * 8
    query = [False] * 16 + [True, False, False, True] * 2
    gallery = [False] * 16 + [False, True, True, True] * 2
    data = table(classes(6), split=split, is_query=query, is_gallery=gallery)
    test = partition(data).test
    assert test.queries.tolist() == [16, 19, 20, 23]
    assert sorted(test.gallery) == [17, 18, 19, 21, 22, 23]
    assert test.rows.tolist() == list(range(16, 24))
    assert [test.gallery[own] if own >= 0 else -1 for own in test.own] == [-1, 19, -1, 23]
    # Flags of training rows are not read: what is drawn for validation is query and gallery.
    validation = partition(data).validation
    assert len(validation.queries) == len(validation.gallery) == 8


def test_a_query_needs_an_image_of_its_class_to_find() -> None:
    split = ["train"] * 16 + ["test"] * 8
    roles = {"is_query": [True] * 20 + [False] * 4, "is_gallery": [False] * 20 + [True] * 4}
    names = classes(4) + ["a"] * 4 + ["b", "b", "c", "c"]
    with pytest.raises(DataError, match="another image of its class in the gallery; of 4 of test"):
        partition(table(names, split=split, **roles))
    with pytest.raises(DataError, match="at least 2 classes in the gallery; test has 1"):
        partition(table(classes(4) + ["a"] * 8, split=split, **roles))


def test_relevant_rows_are_of_the_class_and_neither_the_query_nor_its_sequence() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        names = rng.choice(list("abc"), 30)
        sequences = rng.choice(["", "s", "t"], 30)
        data = table(names, sequence=list(sequences))
        judged = JudgedRows(
            rng.choice(30, 12, replace=False), rng.choice(30, rng.integers(1, 30), replace=False)
        )
        expected = [
            sum(
                names[row] == names[query]
                and row != query
                and not (sequences[row] and sequences[row] == sequences[query])
                for row in judged.gallery
            )
            for query in judged.queries
        ]
        found = judged.roles(data).relevant(data.labels[judged.rows])
        assert found.tolist() == expected


def test_ten_thousand_classes_are_parted_whole() -> None:
    data = table(np.repeat(np.arange(10_000), 3))
    parts = partition(data)
    assert len(parts.test.queries) == 15_000
    assert len(parts.validation.queries) == 3_750 and len(parts.train) == 11_250
