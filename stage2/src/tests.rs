//! The tables against a naive model, a greedy TLB and a reading of everything that was written.

mod bbm;
mod cases;
mod machine;
mod model;
mod refusals;
