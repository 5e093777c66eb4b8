"""Examples that stand below the help of each command. Every line is one that can be typed."""

EXAMPLES = {
    "demo": ("energylens demo",),
    "ingest": (
        "energylens ingest my.lens --preset gpt2-res-jb --estimate",
        "energylens ingest my.lens --model DIR --sae SAE_DIR --texts corpus.jsonl",
        "energylens ingest /shared/my.lens --preset gpt2-res-jb --shard any",
    ),
    "index": ("energylens index my.lens",),
    "presets": ("energylens presets", "energylens presets gpt2-res-jb"),
    "info": ("energylens info demo.lens", "energylens info demo.lens --schema"),
    "verify": ("energylens verify demo.lens",),
    "merge": ("energylens merge all.lens part1.lens part2.lens",),
    "tui": (
        "energylens tui demo.lens",
        "energylens tui demo.lens --view specialists --filter 'q<.05'",
    ),
    "keys": ("energylens keys",),
    "sql": (
        "energylens sql demo.lens 'SELECT category, count(*) FROM texts GROUP BY 1'",
        "energylens sql demo.lens --format csv < query.sql > rows.csv",
    ),
    "queries": ("energylens queries", "energylens queries --name best_features"),
    "query": ("energylens query demo.lens best_features sae=blocks.1 k=5",),
    "search": ("energylens search demo.lens 'opening bracket' --top 5",),
    "page": ("energylens page demo.lens blocks.1.hook_resid_post 206 -o 206.html",),
    "report": ("energylens report demo.lens -o report",),
    "compare": ("energylens compare my.lens before after",),
    "efas": ("energylens efas demo.lens blocks.1.hook_resid_post --variant own",),
    "causality": ("energylens causality demo.lens blocks.1.hook_resid_post",),
    "repair": ("energylens repair demo.lens --sae blocks.2.hook_resid_post",),
    "routing": ("energylens routing demo.lens",),
    "heads": ("energylens heads demo.lens --top 10",),
    "recompute": (
        "energylens recompute demo.lens --keep activations \\",
        "    --hook blocks.1.hook_resid_post",
    ),
    "prompt": ("energylens prompt demo.lens 'def add(a, b):'",),
    "intervene": (
        "energylens intervene demo.lens 'def add(a, b):' \\",
        "    --sae blocks.2.hook_resid_post --feature 285",
    ),
    "attribute": (
        "energylens attribute demo.lens 'def add(a, b):' \\",
        "    --sae blocks.2.hook_resid_post --at 5",
    ),
    "sources": (
        "energylens sources demo.lens 'def add(a, b):' \\",
        "    --sae blocks.2.hook_mixer_out --feature 12",
    ),
    "steer": (
        "energylens steer demo.lens 'I think that' \\",
        "    --sae blocks.2.hook_resid_post --feature 285",
    ),
    "worker": ("energylens worker < requests.jsonl", "energylens worker --schema"),
    "mcp": ("energylens mcp demo.lens", "energylens mcp demo.lens --with-model --limit 50"),
    "doctor": ("energylens doctor", "energylens doctor my.lens"),
    "explain read": ("energylens explain my.lens explanations.jsonl --sae blocks.8",),
    "explain write": (
        "energylens explain write my.lens --model DIR --top 10 --estimate",
        "energylens explain write my.lens --endpoint http://localhost:8080/v1 \\",
        "    --model NAME",
    ),
    "explain score": ("energylens explain score my.lens --model DIR --top 10",),
    "train lm": ("energylens train lm OUT --texts texts.jsonl --n-tokens 1000000",),
    "train mesanet": ("energylens train mesanet OUT --texts texts.jsonl --exits",),
    "train sae": (
        "energylens train sae OUT --model DIR --texts texts.jsonl \\",
        "    --hook blocks.2.hook_resid_post --k 32",
    ),
    "train heldout": ("energylens train heldout OUT --texts unseen.jsonl",),
    "saes compare": ("energylens saes compare ONE OTHER --model DIR --texts texts.jsonl",),
    "export headvis": ("energylens export headvis demo.lens -o heads",),
    "export duckdb": ("energylens export duckdb demo.lens -o demo.duckdb --no-codes",),
    "export delphi": ("energylens export delphi demo.lens --sae blocks.2.hook_resid -o latents",),
    "export neuronpedia": (
        "energylens export neuronpedia demo.lens --sae blocks.2.hook_r -o boards",
    ),
    "export list": ("energylens export list demo.lens -o list.json",),
    "export graph": ("energylens export graph my.lens capital_oakland -o graph.json",),
    "import graph": (
        "energylens import graph my.lens graphs/",
        "energylens import graph my.lens one.json --run gpt2 --sae 8=blocks.8",
    ),
    "import list": ("energylens import list my.lens list.json",),
}
"""By the words of a command. A line that ends in a backslash goes on in the next, as in a shell."""
