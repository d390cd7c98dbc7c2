"""Make the clips of this folder, with the miniature's test voices and keys and sentences that it was not trained on.

python examples/make_clips.py                 # writes beside this script
python examples/make_clips.py --output FOLDER
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile

from demo.make_data import render
from demo.speech import WINDOW
from demo.world import Scene
from src.configuration_DIFFA import SAMPLE_RATE
from src.errors import reports_user_errors

CAT = Scene("speech", "the brown cat takes four cups", {"gender": "male", "speed": "fast", "pitch": "low"})
SHEEP = Scene("speech", "two blue stones for the sheep", {"gender": "female", "speed": "slow", "pitch": "low"})
DOG = Scene("speech", "the dog finds two green boxes", {"gender": "female", "speed": "slow", "pitch": "high"})
SIREN = Scene("sound", "", {"event": "siren", "count": "three"})
MELODY = Scene("music", "", {"direction": "rising", "tempo": "fast"})
SEED = 6
# Several scenes make a long clip: each starts a window of the miniature's encoder.
CLIPS = {
    "clip.wav": (CAT,),
    "sheep.flac": (SHEEP,),
    "siren.flac": (SIREN,),
    "melody.mp3": (MELODY,),
    "story.ogg": (CAT, SHEEP, DOG),
}


@reports_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent, help="default: %(default)s")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, scenes in CLIPS.items():
        rng = np.random.default_rng(SEED)
        parts = [render(scene, test=True, rng=rng).samples for scene in scenes]
        window = round(WINDOW * SAMPLE_RATE)
        parts = [np.pad(part, (0, window - len(part))) for part in parts[:-1]] + parts[-1:]
        soundfile.write(args.output / name, np.concatenate(parts), SAMPLE_RATE)
        print(f"{args.output / name}: {' / '.join(scene.text or str(dict(scene.attributes)) for scene in scenes)}")


if __name__ == "__main__":
    sys.exit(main())
