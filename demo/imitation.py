"""Conversations that imitate what DIFFA's adapters feed the LLM: text to pretrain the miniature's LLaDA on.

A clip is imitated by slots: each spoken word stands in a few of them among fillers, neighbours are blended, attribute
words are strewn over the slots before. `pretrain_llada.py` turns slots into noisy embeddings.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from demo import world
from src.configuration_DIFFA import AUDIO_MARKER, NUM_QUERIES, NUM_TRAINABLE_PROMPTS
from src.prompts import END_OF_TURN, build_prompt, choice_lines

FILLER = -1  # a slot that holds no word
MAX_SEMANTIC_SLOTS = 50  # 4 s of audio
BATCH_TOKENS = 2000  # positions per batch, padding included: more samples where they are short

# Share of each kind of sample at the start and at the end. Letters are the hardest answers and get the most;
# "lookup" samples only connect letters and option texts.
FIRST_SHARES = {"lookup": 0.2, "asr": 0.12, "open": 0.1, "mmsu": 0.28, "mmau": 0.15, "voicebench": 0.15}
LAST_SHARES = {"lookup": 0.03, "asr": 0.17, "open": 0.08, "mmsu": 0.35, "mmau": 0.12, "voicebench": 0.25}


@dataclass
class ImitationSample:
    """One imitated conversation: token ids, with the slots of the imitated audio among them."""

    task: str
    category: str
    ids: list[int] = field(default_factory=list)  # tokens, and in slots the word heard there or FILLER
    others: list[int] = field(default_factory=list)  # in slots: the word blended in
    blends: list[float] = field(default_factory=list)  # in slots: how much of it; -1 where there is no slot
    letters: list[int] = field(default_factory=list)  # the letter of the option that a position belongs to, or 0
    rights: list[int] = field(default_factory=list)  # the same where the option is right, end of text where it is not
    answer_start: int = 0
    answer_length: int = 0  # tokens of the answer with its end of turn, without the padding behind it


class Imitator:
    """Draws samples. `difficulty` from 0 to 1 is the curriculum: how many slots and how much confusion there is."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random, test: bool) -> None:
        self.tokenizer, self.rng, self.test = tokenizer, rng, test
        self.audio_id = tokenizer.encode(f" {AUDIO_MARKER}", add_special_tokens=False)
        assert len(self.audio_id) == 1, "the audio marker and the space before it must be one token"
        vocabulary = tokenizer.get_vocab()
        self.word_ids = {token[1:]: i for token, i in vocabulary.items() if token.startswith("Ġ")}
        self.options = [word for role in world.ROLES.values() for word in role] + list(world.THINGS)
        self.options = sorted({*self.options, *(v for a in world.ATTRIBUTES.values() for vs in a.values() for v in vs)})
        self.letter_ids = [vocabulary[letter] for letter in world.LETTERS]
        self.letters = {vocabulary[f"Ċ{letter}."]: vocabulary[letter] for letter in world.LETTERS}
        self.letters |= {self.word_ids[letter.lower()]: vocabulary[letter] for letter in world.LETTERS}
        self.words = set(self.word_ids.values()) - set(self.audio_id)
        self.heard = [self.word_ids[word] for word in world.SPOKEN_WORDS]

    def item(self, task: str) -> world.Item:
        """A random item of a task (a key of LAST_SHARES), its spoken text from this imitator's split."""
        rng = self.rng
        if task == "lookup":
            return self.lookup_item()
        if task == "voicebench":
            subset = rng.choices(world.VOICEBENCH_SUBSETS, (6, 3, 1))[0]
            return world.voicebench_item(world.random_question_speech(rng, subset, self.test))
        kind = "speech" if task in ("asr", "mmsu") else rng.choices(("speech", "sound", "music"), (4, 1, 1))[0]
        if kind != "speech":
            scene = world.random_sound(rng) if kind == "sound" else world.random_music(rng)
        elif task == "asr" and rng.random() < 0.25:
            scene = world.random_question_speech(rng, rng.choice(world.VOICEBENCH_SUBSETS), self.test)
        else:
            scene = world.random_speech(rng, self.test)
        if task == "asr":
            return world.asr_item(scene)
        contents = [c for c in world.categories_of(scene) if c in world.ROLES]
        voice = kind == "speech" and rng.random() < 0.45
        category = rng.choice(world.VOICE_CATEGORIES if voice else contents or world.categories_of(scene))
        if task == "open":
            return world.open_item(scene, category)
        return (world.mmsu_item if task == "mmsu" else world.mmau_item)(scene, category, rng)

    def lookup_item(self) -> world.Item:
        """Four options and a plain question about them: the letter of a text, the text of a letter, or both."""
        rng = self.rng
        choices = rng.sample(self.options, 4)
        index = rng.randrange(4)
        right, letter = choices[index], world.LETTERS[index]
        kind = rng.choices(("letter", "heard", "text", "both"), (4, 3, 1, 1))[0]
        question, answer = {
            "letter": (right, letter), "heard": ("Which", letter), "text": (letter, right),
            "both": (right, f"{letter}. {right}"),
        }[kind]  # fmt: skip
        scene = world.Scene("speech", right if kind == "heard" else "")
        return world.Item(scene, "lookup", kind, "", f"{question}?\n{choice_lines(choices)}", answer, choices, index)

    def sample(self, task: str, difficulty: float) -> ImitationSample:
        """A random item as the LLM reads it: prompt, slots, answer, and padding that is part of the answer region."""
        item = self.item(task)
        encode = self.tokenizer.encode
        prompt = encode(build_prompt(item.instruction), add_special_tokens=False)
        answer = encode(item.answer + END_OF_TURN, add_special_tokens=False)
        cut = prompt.index(self.audio_id[0])
        slots = self.acoustic_slots(item, difficulty) + self.semantic_slots(item, difficulty)
        region = self.rng.choice((2, 4, 4, 8, 16))  # answers are asked for in regions of many lengths
        padding = max(self.rng.randint(0, 4), region - len(answer))
        sample = ImitationSample(task, item.category)
        sample.ids = prompt[:cut] + [a for a, _, _ in slots] + prompt[cut:] + answer
        sample.ids += [self.tokenizer.eos_token_id] * padding
        text = len(sample.ids) - cut - len(slots)
        sample.others = [0] * cut + [b for _, b, _ in slots] + [0] * text
        sample.blends = [-1.0] * cut + [w for _, _, w in slots] + [-1.0] * text
        sample.letters, sample.rights = self.hints(item, sample.ids, end=len(prompt) + len(slots))
        sample.answer_start, sample.answer_length = len(prompt) + len(slots), len(answer)
        return sample

    def hints(self, item: world.Item, ids: list[int], end: int) -> tuple[list[int], list[int]]:
        """For every word of a written or spoken option: its letter, and its letter only if it is right; 0 elsewhere."""
        letters, rights, letter = [0] * len(ids), [0] * len(ids), 0
        if item.choices:
            right = self.letter_ids[item.answer_index]
            for position, token in enumerate(ids[:end]):
                if token in self.letters:
                    letter = self.letters[token]
                elif token in self.words and letter:
                    letters[position] = letter
                    rights[position] = letter if letter == right else self.tokenizer.eos_token_id
                elif token != FILLER:  # the option's line is over
                    letter = 0
        return letters, rights

    def acoustic_slots(self, item: world.Item, difficulty: float) -> list[tuple[int, int, float]]:
        """Stage 2: attribute words strewn over the 64 slots. Stage 1: 20 slots that say nothing."""
        rng = self.rng
        if item.task == "lookup":
            return []
        needs_attributes = not (item.task in ("asr", "voicebench") or item.category in world.ROLES)
        if not needs_attributes and rng.random() < 0.4:
            return [(FILLER, FILLER, 0.0)] * (NUM_TRAINABLE_PROMPTS if rng.random() < difficulty else rng.randint(0, 4))
        words = [self.word_ids[w] for w in item.scene.attributes.values() for _ in range(rng.randint(1, 4))]
        most = NUM_QUERIES if rng.random() < 0.35 * difficulty else len(words) + int(rng.randint(0, 12) * difficulty)
        slots = [(w, w, 0.0) for w in words] + [(FILLER, FILLER, 0.0)] * (most - len(words))
        rng.shuffle(slots)
        return slots

    def semantic_slots(self, item: world.Item, difficulty: float) -> list[tuple[int, int, float]]:
        """Each word over a few slots, silence around, neighbours blended; for other sounds mostly fillers."""
        rng = self.rng
        if item.scene.kind != "speech":
            words = [self.word_ids[w] for w in item.scene.attributes.values()]
            return [
                ((w := rng.choice(words)), w, 0.0) if rng.random() < 0.1 else (FILLER, FILLER, 0.0)
                for _ in range(int(rng.randint(0, MAX_SEMANTIC_SLOTS) * difficulty * rng.random()))
            ]
        longest = 1 + round(rng.choice((1, 2, 4, 6)) * difficulty)
        holes = rng.choice((0.0, 0.0, 0.2, 0.5)) * difficulty  # slots of a word that stay empty
        words: list[int] = []
        silence = [FILLER] * round(rng.randint(0, 5) * difficulty)
        words += silence
        for word in item.scene.text.split():
            token = self.word_ids[word]
            length = rng.randint(1, longest)
            run = [FILLER if rng.random() < holes else token for _ in range(length)]
            run[rng.randrange(length)] = token
            words += run + [FILLER] * (rng.random() < 0.2 * difficulty)
        words += [FILLER] * round(rng.randint(0, 5) * difficulty)
        if len(words) > MAX_SEMANTIC_SLOTS:  # drop slots at random, as fast speech would
            keep = sorted(rng.sample(range(len(words)), MAX_SEMANTIC_SLOTS))
            words = [words[i] for i in keep]
        slots = []
        for i, word in enumerate(words):
            other, blend = word, 0.0
            if difficulty and rng.random() < 0.15:
                other, blend = words[min(i + 1, len(words) - 1)], rng.uniform(0.0, 0.5)
            elif rng.random() < 0.02 * difficulty:
                other, blend = rng.choice(self.heard), rng.uniform(0.0, 0.7)
            slots.append((word, other, blend))
        return slots

    def pool(self, count: int, difficulty: float, shares: dict[str, float]) -> list[list[ImitationSample]]:
        """Batches of samples of like length, each of at most BATCH_TOKENS positions, in random order."""
        draws = self.rng.choices(list(shares), list(shares.values()), k=count)
        samples = [self.sample(task, difficulty * self.rng.random() ** 0.5) for task in draws]
        samples.sort(key=lambda sample: len(sample.ids))
        batches: list[list[ImitationSample]] = [[]]
        for sample in samples:
            if (len(batches[-1]) + 1) * len(sample.ids) > BATCH_TOKENS:
                batches.append([])
            batches[-1].append(sample)
        self.rng.shuffle(batches)
        return batches


def shares_at(progress: float) -> dict[str, float]:
    """The share of each task when `progress` of the steps are done."""
    mixed = min(1.0, progress / 0.4)
    return {task: (1 - mixed) * FIRST_SHARES[task] + mixed * LAST_SHARES[task] for task in LAST_SHARES}


@dataclass(frozen=True)
class TextBatch:
    """B samples of at most T positions."""

    ids: torch.Tensor  # [B, T] clean tokens; in slots the word or FILLER
    others: torch.Tensor  # [B, T]
    blends: torch.Tensor  # [B, T], -1 outside slots
    attention_mask: torch.Tensor  # [B, T]
    answer: torch.Tensor  # bool [B, T], the answer region with its padding
    letters: torch.Tensor  # [B, T], as in ImitationSample
    rights: torch.Tensor  # [B, T], as in ImitationSample
    lengths: torch.Tensor  # [B] answer tokens without padding


def collate(samples: list[ImitationSample], pad_id: int) -> TextBatch:
    """Right-padded tensors of samples."""
    shape = (len(samples), max(len(sample.ids) for sample in samples))
    ids = np.full(shape, pad_id)
    others, letters, rights = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    blends, mask, answer = np.full(shape, -1.0, dtype=np.float32), np.zeros(shape, dtype=bool), np.zeros(shape, bool)
    for row, sample in enumerate(samples):
        n = len(sample.ids)
        ids[row, :n], others[row, :n] = sample.ids, sample.others
        letters[row, :n], rights[row, :n] = sample.letters, sample.rights
        blends[row, :n], mask[row, :n], answer[row, sample.answer_start : n] = sample.blends, True, True
    lengths = torch.tensor([sample.answer_length for sample in samples])
    return TextBatch(*map(torch.from_numpy, (ids, others, blends, mask, answer, letters, rights)), lengths)
