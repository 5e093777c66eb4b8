"""What a MesaNet is made of."""

from typing import Any, Literal

from transformers import PretrainedConfig

from energylens.errors import ModelError

EnergySource = Literal["none", "predicted", "entropy", "shuffled", "previous", "previous shuffled"]
RouterKind = Literal["learned", "random", "hash", "dense"]
MixerKind = Literal["mesa", "attention", "log-linear"]
Budget = Literal["equal", "by_energy", "by_drop", "by_shuffled_drop"]


class MesaNetConfig(PretrainedConfig):
    """A decoder of blocks `x += mixer(norm x); x += anchors(norm x)`.

    `mixer` mesa solves a decayed least-squares problem at every token; attention is its twin with
    rotary positions; log-linear keeps a state for each length 1, 2, 4, ... of the past, up to
    `max_position_embeddings`. `router` learned sends each token to `active_anchors` of `n_anchors`
    by prototypes; random and hash do so without looking (a hash of token and position, of the token
    alone); dense is one gated MLP of the width a token would use.

    `energy` is what the learned router sees beside the token: nothing, the energy predicted by a
    small head, the entropy of the layer's lens, the energy that the token itself had when the
    layer's lens foretold it one place before (previous), or what another text's token has of that
    (shuffled, previous shuffled). The energy of predicting the next token needs that token, so no
    router may see it. `energy_first_layer` is the first block whose router sees it.

    `budget` equal gives every token `active_anchors`; by_energy gives the third of the tokens with
    least energy seen one fewer and the third with most one more; by_drop goes by what the exit head
    before the block says the blocks to come are worth, in all blocks but the first, and
    by_shuffled_drop by what it says of another text's token. The last two need `exits`.

    `router_features` features of an SAE, read off the stream before the block
    `router_features_layer`, are shown to that block's learned router; with
    `router_features_shuffled` it sees those of another text's token. See `RouterFeatures`. A
    configuration without any says nothing of them.

    `exits` makes every block a place to stop: in training the read-out is applied to its stream, a
    loss of weight `exit_weight`, and a head learns what the later blocks are worth; `exit_energy`
    adds a head of equal size for the energy of stopping.
    """

    model_type = "mesanet"
    router_features = 0
    router_features_layer = 0
    router_features_shuffled = False

    def __init__(
        self,
        vocab_size: int = 4096,
        hidden_size: int = 160,
        num_hidden_layers: int = 5,
        num_attention_heads: int = 10,
        max_position_embeddings: int = 256,
        mixer: MixerKind = "mesa",
        router: RouterKind = "learned",
        energy: EnergySource = "predicted",
        energy_first_layer: int = 0,
        budget: Budget = "equal",
        exits: bool = False,
        exit_energy: bool = False,
        exit_weight: float = 0.2,
        router_features: int = 0,
        router_features_layer: int = 0,
        router_features_shuffled: bool = False,
        chunk_size: int = 32,
        solver_steps_train: int = 8,
        solver_steps: int = 16,
        solver_tolerance: float = 1e-4,
        conv_size: int = 4,
        ridge_bound: float = 0.25,
        n_anchors: int = 20,
        active_anchors: int = 2,
        anchor_width: int = 32,
        anchor_key_size: int = 32,
        shared_width: int = 128,
        router_scale: float = 4.0,
        embedding_scale: float = 16.0,
        mixer_scale: float = 0.4,
        rms_norm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        if "drop" in budget and not exits:
            raise ModelError(f"the budget '{budget}' is decided by the heads of exits; set exits")
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.mixer = mixer
        self.router = router
        self.energy = energy
        self.energy_first_layer = energy_first_layer
        self.budget = budget
        self.exits = exits
        self.exit_energy = exit_energy
        self.exit_weight = exit_weight
        if router_features:
            self.show_features(router_features, router_features_layer, router_features_shuffled)
        self.chunk_size = chunk_size
        self.solver_steps_train = solver_steps_train
        self.solver_steps = solver_steps
        self.solver_tolerance = solver_tolerance
        self.conv_size = conv_size
        self.ridge_bound = ridge_bound
        self.n_anchors = n_anchors
        self.active_anchors = active_anchors
        self.anchor_width = anchor_width
        self.anchor_key_size = anchor_key_size
        self.shared_width = shared_width
        self.router_scale = router_scale
        self.embedding_scale = embedding_scale
        self.mixer_scale = mixer_scale
        self.rms_norm_eps = rms_norm_eps
        defaults = {"tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0}
        super().__init__(**(defaults | kwargs))

    def show_features(self, n: int, layer: int, is_shuffled: bool) -> None:
        """Say that the router of a block sees n features.

        Raises:
            ModelError: there is no such block, or its router sees nothing.
        """
        if self.router != "learned":
            raise ModelError(
                f"the model's routers are '{self.router}', which see nothing; features are shown "
                "to learned ones"
            )
        if not 0 <= layer < self.num_hidden_layers:
            raise ModelError(
                f"there is no block {layer} to show features to: the model has "
                f"{self.num_hidden_layers}, counted from 0"
            )
        self.router_features = n
        self.router_features_layer = layer
        self.router_features_shuffled = is_shuffled
