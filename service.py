"""The BentoML services of this bundle: `bentoml serve` and `bentoml build` start here.

The entry service answers on all protocols. Every packaged model lives in it, behind its own batcher;
one that wants a GPU lives in a service of its own, which the entry service asks. What is packaged
lies in `.headgate/bundle`; `make ship` puts it there.
"""

from pathlib import Path

from headgate.serving.bento import entry_service, packaged

bundle = packaged(Path(__file__).parent)
service = entry_service(bundle)
