//! What went wrong in directors before, as stories of simulated rings. `sim/COVERAGE.md` says which story is which, and
//! what is proven elsewhere.

mod operators;
mod ring;
mod users;
