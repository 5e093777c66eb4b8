"""The app on a store that an older version made."""

import shutil
from pathlib import Path

from tests.conftest import OLD_STORE


async def test_every_view_of_a_store_of_0_1_0_opens(drive, tmp_path: Path) -> None:
    path = Path(shutil.copytree(OLD_STORE, tmp_path / "old.lens"))
    async with drive("large", path) as d:
        for said in ("one", "two", "MesaNetForCausalLM", "index  stale"):
            assert said in d.text, said
        await d.press("down", "enter")
        assert "10 of 10" in d.text or "8 of 8" in d.text
        await d.press("enter")
        for key in "345678":
            await d.press(key)
            assert "1 Overview" in d.lines[0]
            assert not d.app._exception
