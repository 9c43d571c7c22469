// Who guesses in the program's rounds, if anybody does.
#pragma once
#include "program.cuh"

// Whether the program has a draft, and whether that is heads. What only a draft or guesses need is a quarter of the code of a program:
// where there are none, none of it is compiled.
constexpr bool HAS_DRAFT = SEGMENT_DRAFT != NONE;
// Whether anything is guessed in its rounds.
constexpr bool GUESSES = HAS_DRAFT || LOOKS_UP;
constexpr bool HAS_HEADS = HAS_DRAFT && SEGMENT_EXTEND == NONE;
