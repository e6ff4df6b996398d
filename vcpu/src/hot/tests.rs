//! The hot path against the slow path: two machines in the same state take the same exits, one by the hot path
//! where that answers, the other by the slow path alone, and nobody can tell them apart.

mod console;
mod every;
mod trap;
mod twins;
mod walk;
