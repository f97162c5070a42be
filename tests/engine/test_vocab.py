"""A vocabulary is read from several threads at once: by a server's tokenizing and generating."""

from concurrent.futures import ThreadPoolExecutor

from localmtp.engine.llama import Model
from localmtp.models import resolve


def test_threads_do_not_read_each_others_pieces() -> None:
    with Model(resolve("nano").target) as model:
        vocab = model.vocab
        tokens = range(vocab.size - 64, vocab.size)
        expected = [vocab.piece(token) for token in tokens]
        assert len(set(expected)) > 32

        def read(_: int) -> list[bytes]:
            return [vocab.piece(token) for token in tokens]

        with ThreadPoolExecutor(8) as pool:
            assert all(found == expected for found in pool.map(read, range(400)))
