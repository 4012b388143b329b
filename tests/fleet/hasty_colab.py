"""The product, as ``python -m`` starts it, where the machines of Colab are asked every second instead of every minute."""

import sys
from dataclasses import replace

from supervisor.__main__ import main
from supervisor.core import fleet_serving
from supervisor.fleet.provisioners import colab

colab.TRAITS = replace(colab.TRAITS, poll_s=1.0, listings=2, listings_apart_s=0.2)
fleet_serving.AGAIN_S = 0.2

if __name__ == "__main__":
    sys.exit(main())
