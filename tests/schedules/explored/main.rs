//! What several threads do at once, under many schedules: see `design/schedules.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not everything uses all of the support")]

mod bounds;
mod commits;
mod driver;
mod explore;
mod fencing;
mod group_commit;
mod leases;
mod rewrites;
mod site;

#[path = "../../support/live.rs"]
mod live;
#[path = "../../support/rule_store.rs"]
mod rule_store;
#[path = "../../support/scheduled_store.rs"]
mod scheduled_store;
#[path = "../../support/seeded.rs"]
mod seeded;
