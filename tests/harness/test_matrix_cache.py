"""What is kept survives other runs, cut lines and a killed writer."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.matrix.cache import (
    ResultCache,
    digest,
    protect,
    remove,
    write_atomically,
)
from harness.outcome import Observation, Outcome

SEEN = Observation(Outcome.BUG, "AssertionError: no", "Traceback\nñ", "out", 0.25)


def open_cache(path: Path, said: list[str] | None = None) -> ResultCache:
    return ResultCache(path, (said if said is not None else []).append)


def test_result_is_read_back_by_another_run(tmp_path: Path) -> None:
    open_cache(tmp_path).add("script", "place", SEEN)
    assert open_cache(tmp_path).get("script", "place") == [SEEN]
    assert open_cache(tmp_path).get("script", "elsewhere") == []
    assert open_cache(tmp_path).get("other", "place") == []


def test_runs_of_one_cell_add_up(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    other = Observation(Outcome.HEALTHY)
    cache.add("script", "place", SEEN)
    cache.add("script", "place", other)
    assert cache.get("script", "place") == [SEEN, other]
    assert open_cache(tmp_path).get("script", "place") == [SEEN, other]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data.replace(b"bug", b"hug"),
        lambda data: b"\xff\xfe nonsense\n" + data[30:],
        lambda data: b"{}\n" + data.split(b" ", 1)[1],
    ],
    ids=["cut short", "changed", "binary", "without its checksum"],
)
def test_damaged_entry_is_ignored_with_a_message(tmp_path: Path, damage: object) -> None:
    """The others stay, and what is added afterwards can be read."""
    assert callable(damage)
    open_cache(tmp_path).add("script", "place", SEEN)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(damage(file.read_bytes()))
    said: list[str] = []
    cache = open_cache(tmp_path, said)
    assert cache.get("script", "place") == []
    assert len(said) == 1
    assert "damaged entr" in said[0]
    assert str(file) in said[0]
    cache.add("script", "place", SEEN)
    told_again: list[str] = []
    assert open_cache(tmp_path, told_again).get("script", "place") == [SEEN]
    assert told_again == []


def test_whole_entries_beside_a_damaged_one_stay(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    for place in ("one", "two", "three"):
        cache.add("script", place, SEEN)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:-9] + b"\n" + lines[2])
    for _ in range(2):
        read = open_cache(tmp_path)
        assert [read.get("script", place) for place in ("one", "two", "three")] == [
            [SEEN],
            [],
            [SEEN],
        ]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl"] == [file.name]


def _add_many(path: Path, name: str) -> None:
    cache = open_cache(path)
    for number in range(50):
        cache.add("script", f"{name}{number}", SEEN)


def test_two_runs_sharing_a_cache_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    said: list[str] = []
    cache = open_cache(tmp_path, said)
    places = [f"{name}{number}" for name in "ab" for number in range(50)]
    assert [place for place in places if cache.get("script", place) != [SEEN]] == []
    assert said == []


def test_result_that_cannot_be_written_is_known_to_this_run_and_it_is_said_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    cache = ResultCache(tmp_path / "file" / "below", said.append)
    for place in ("one", "two"):
        cache.add("script", place, SEEN)
        assert cache.get("script", place) == [SEEN]
    (line,) = said
    assert "Not a directory" in line
    assert "HARNESS_CACHE_DIR" in line


def test_results_are_kept_where_a_script_removed_the_directory(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "results")
    cache.add("script", "one", SEEN)
    remove(tmp_path / "results")
    cache.add("script", "two", SEEN)
    assert open_cache(tmp_path / "results").get("script", "two") == [SEEN]


def test_texts_cannot_be_mistaken_for_one_another() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc") != digest("abc", "")


def test_protected_directory_can_be_removed(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "below").mkdir(parents=True)
    (place / "below" / "file").write_text("")
    protect(place)
    assert (place / "below" / "file").stat().st_mode & 0o222 == 0
    remove(place)
    assert not place.exists()
    remove(place)


def test_file_that_threads_replace_at_once_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [str(number) * 10_000 for number in range(10)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda text: write_atomically(path, text), texts * 20):
            assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_link_only_the_link_is_removed(tmp_path: Path) -> None:
    """What it leads to keeps its files and its permissions."""
    target = tmp_path / "target"
    (target / "inside").mkdir(parents=True)
    target.chmod(0o555)
    (tmp_path / "link").symlink_to(target)
    remove(tmp_path / "link")
    assert (target / "inside").is_dir()
    assert target.stat().st_mode & 0o777 == 0o555
    assert not (tmp_path / "link").is_symlink()
