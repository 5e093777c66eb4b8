"""Files of gains, found again to be applied to a run's model."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from energylens.errors import UsageError
from energylens.ingest.on_request.reopen import Reopened
from energylens.lens.gains import Gains, check_gains, gain_change, read_gains
from energylens.lens.interventions import Change, Edit, Seen, like_feature_change
from energylens.lens.saes import Sae


@dataclass(frozen=True)
class Applied:
    """Gains of one of a run's SAEs."""

    sae: Sae
    gains: Gains
    told: str
    """The file and its checksum: what a stored run says of them."""

    @property
    def change(self) -> Change:
        """What they do at each token."""
        return gain_change(self.sae, self.gains.dense(self.sae.d_sae))

    def like(self, seen: Seen, seed: int) -> tuple[Change, tuple[int, ...]]:
        """The same gains given to other features of like strength, and which: a control."""
        ablation = Edit(self.gains.features, "ablate")
        _, ids = like_feature_change(self.sae, ablation, seen, seed)
        pairs = zip(ids, self.gains.gains, strict=False)  # there may be fewer others
        features, gains = zip(*pairs, strict=True) if ids else ((), ())
        other = Gains(features, gains, self.gains.about)
        return gain_change(self.sae, other.dense(self.sae.d_sae)), ids


def applied(reopened: Reopened, path: str) -> Applied:
    """The gains of a file.

    Raises:
        UsageError: it cannot be read, or is for another model or SAE than the run's.
    """
    place = Path(path)
    gains = read_gains(place)
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    known = reopened.instruments.saes
    own = [sae for sae in known if sae.weights_sha256 == gains.about.get("sae_sha256")]
    if not own:
        named = gains.about.get("sae_id")
        there = ", ".join(sae.sae_id for sae in known) or "none"
        raise UsageError(
            f"the gains '{path}' were learned for the SAE '{named}' with weights that no SAE of "
            f"the run '{reopened.run.run_id}' has (it has {there}); gains fit only what they were "
            "learned for: run energylens repair"
        )
    sae = next((one for one in own if one.hook_name == gains.about.get("hook_name")), own[0])
    check_gains(gains, reopened.model, sae)
    return Applied(sae, gains, f"{path} sha256:{digest}")
