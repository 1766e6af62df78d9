"""The BentoML services of this bundle: `bentoml serve` and `bentoml build` start here.

Every packaged model on CPU lives in the entry service, behind its own batcher, and answers on
all protocols. What is packaged lies in `.headgate/bundle`; `make ship` puts it there.
"""

from pathlib import Path

from headgate.serving.bento import entry_service, packaged

bundle = packaged(Path(__file__).parent)
service = entry_service(bundle)
