//! The scheduler against itself, against promises, and against a textbook.

mod admission;
mod calls;
mod dialogue;
mod jobs;
mod promises;
mod reference;
mod spare;
mod world;
