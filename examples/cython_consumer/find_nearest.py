# SPDX-License-Identifier: Apache-2.0
"""Find, among two thousand sentences, the nearest to each question. Build `nearest` first:

python setup.py build_ext --inplace        or
meson setup build && meson compile -C build
"""

from itertools import product

from nearest import main

import embellama

animals = "cat dog horse cow sheep goat pig duck goose hen".split()
places = "barn garden kitchen river field forest village road bridge hill".split()
deeds = ["sleeps in", "runs across", "eats near", "hides behind"]
times = ["at dawn", "at noon", "in the evening", "on Sundays", "in winter"]
corpus = [
    f"The {animal} {deed} the {place} {time}."
    for animal, deed, place, time in product(animals, deeds, places, times)
]
queries = [
    "Where does the cat sleep in the evening?",
    "Which bird eats beside the water in the morning?",
    "What is running over the bridge when it is cold?",
]
main(embellama.EmbeddingModel("all-MiniLM-L6-v2").core_model, corpus, queries)
