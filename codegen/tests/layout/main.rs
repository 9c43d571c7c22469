//! Layout of weights and sizes of programs: round trips, mappings, placements that are broken on purpose, and choices.

mod arena;
mod broken;
mod consumer;
mod decode;
mod mapping;
mod models;
mod program;
mod round_trip;
mod weights;
