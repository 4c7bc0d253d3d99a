//! What there is: the jobs in a checkpoint directory, their checkpoints and savepoints, and which of them is the latest.
//!
//! Reads only. `log` and `inheritance` say what a job's newest coordinator goes by, for the coordinator itself, too, so that
//! there is one truth; `glance` looks at one checkpoint; `list` at all of them, `latest` at as many as it takes (`order`).
//! `hint` is the file that tells other tools.

mod choice;
mod glance;
mod hint;
mod inheritance;
mod latest;
mod lengths;
mod list;
pub(crate) mod log;
mod owner;
mod survey;

pub use choice::ranked;
pub use glance::{Figures, State};
pub use hint::Hint;
pub(crate) use inheritance::Inheritance;
pub use inheritance::Standing;
pub use latest::{Found, Latest, PassedOver, latest, latest_of_each};
pub(crate) use lengths::lengths;
pub use list::{Entry, Group, Listing, list};
use owner::owner;
pub(crate) use owner::{refuse_others, refuse_taken};
