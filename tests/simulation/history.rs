//! What happens in a run, made from its seed before anything runs: so that events can be left out, and it runs again.

use crate::chaos_store::{Random, Weather};

/// How the job is set up, and how the store is.
#[derive(Clone, Debug)]
pub struct Setup {
    pub retained: usize,
    pub across: bool,
    pub amplification_max: Option<f64>,
    pub fold_ratio_max: f64,
    pub file_bytes_max: u64,
    pub inline_bytes_max: u64,
    pub blocking: bool,
    pub subtasks_per_file_max: Option<u32>,
    pub uploads_max: usize,
    /// Longer files are uploaded in parts.
    pub part_bytes: u64,
    pub memory_bytes_max: u64,
    pub linger_ms: u64,
    pub deletes_max: usize,
    pub delete_retries: u32,
    pub metadata_version: u32,
    pub workers: usize,
    pub parallelism: u32,
    /// Of all chunks, where they are of one length: then files waste as much as others.
    pub chunk_bytes: Option<u64>,
    pub weather: Weather,
    /// Of several who create a file at once, in each recovery.
    pub proof_rounds: u32,
    /// Is everything released at the end?
    pub disposes: bool,
    /// Are other tools told of the latest checkpoint?
    pub latest_file: bool,
    /// Where savepoints go, if any are taken.
    pub savepoints: Option<Place>,
    /// Copies on local disks, if the workers keep any.
    pub local: Option<Local>,
}

/// The local disks, which all processes have in common.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    pub directories: usize,
    /// Of each worker's copies.
    pub bytes_max: u64,
    /// Of so many calls one fails.
    pub fails_one_in: u64,
    /// Are new workers called as those before them?
    pub same_names: bool,
}

/// What befalls local disks.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    /// Of so many files one is removed.
    Lose {
        one_in: u64,
    },
    /// In one a bit is flipped.
    Flip {
        one_in: u64,
    },
    /// With all that was in it.
    Gone {
        directory: u64,
    },
    Full,
    Room,
}

/// A directory of the user's.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Elsewhere,
    /// Where the directories of jobs are.
    AmongJobs,
    /// In the job's own.
    InTheJobs,
    BelowTheJobs,
}

/// How a snapshot is taken, and how its end is told.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Acknowledged before the files are sealed.
    pub provisional: bool,
    /// Names what has been written for checkpoints that haven't completed, where the worker lets it.
    pub eager: bool,
    /// Of so many notifications one is lost.
    pub lost_one_in: u64,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Chunks come, change and go.
    Work {
        seed: u64,
        chunks: u64,
    },
    /// A chunk that is uploaded in parts.
    Large {
        seed: u64,
    },
    Checkpoint {
        how: How,
    },
    /// Given up after so many acknowledgements.
    Abort {
        after: u64,
        how: How,
    },
    /// Left under way after so many acknowledgements.
    Dangle {
        after: u64,
        how: How,
    },
    /// Two at once; the first completes before the second is acknowledged, after it, or never.
    Overlap {
        first: Order,
        how: How,
    },
    Settle,
    Rewrite {
        bytes_max: u64,
    },
    Leftovers,
    /// The call is dropped after a while.
    Cut {
        call: Call,
        after_ms: u64,
    },
    /// Messages that were delivered before are again.
    Repeat {
        seed: u64,
    },
    Wait {
        ms: u64,
    },
    Throttle {
        ms: u64,
    },
    Stall {
        process: u64,
        ms: u64,
    },
    /// One task dies and starts again.
    FailTask {
        subtask: u64,
    },
    /// A process with its tasks.
    FailWorker {
        worker: u64,
    },
    /// A subtask has done all it had to.
    Finish {
        subtask: u64,
    },
    /// All processes die, and new ones start, maybe of another number, and with another setting.
    Restart {
        parallelism: Option<u32>,
        workers: usize,
        retained: Option<usize>,
    },
    /// A process dies at one of its next requests.
    CrashSoon {
        process: u64,
        operations: u64,
    },
    /// The coordinator stalls, is replaced, and goes on.
    Zombie {
        stall_ms: u64,
        acts: Vec<Act>,
        starts_first: bool,
    },
    Savepoint {
        pack: bool,
        how: How,
        course: Course,
    },
    /// The one that is ready.
    CommitSavepoint,
    /// To local disks.
    Harm {
        seed: u64,
        harm: Harm,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Before,
    /// And a third is triggered with them, whose snapshot is taken when the first has completed.
    Between,
    After,
    Never,
}

#[derive(Clone, Copy, Debug)]
pub enum Call {
    Complete,
    Settle,
    Rewrite,
    Leftovers,
}

/// How a savepoint goes.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    Alone,
    /// A checkpoint is triggered after it, and completes before.
    Overtaken,
    /// A checkpoint is triggered before it, and completes after.
    Overtaking,
    /// Beside a checkpoint.
    Together,
    /// After so many acknowledgements.
    GivenUp(u64),
    /// Left under way after so many.
    Left(u64),
    /// All have acknowledged; it is for a later event to commit it.
    Ready,
    /// Whoever commits it doesn't wait longer than so many milliseconds.
    Cut(u64),
}

/// What a coordinator does that doesn't know it was replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Complete,
    Abort,
    Settle,
    Rewrite,
    Leftovers,
    Dispose,
    /// Beside a commit.
    DisposeBeside,
}

#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    pub setup: Setup,
    pub events: Vec<Event>,
}

impl History {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5eed);
        let setup = setup(&mut random);
        let length = 8 + random.below(48);
        let first = Event::Work { seed: random.next(), chunks: 10 };
        let events = [first].into_iter().chain((0..length).map(|_| event(&mut random))).collect();
        let mut history = Self { seed, setup, events };
        // Numbers of their own, so that seeds that have been named make the histories that they made, with these between.
        history.add_savepoints(&mut Random::new(seed.wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x5a7e));
        history.add_copies(&mut Random::new(seed.wrapping_mul(0xe703_7ed1_a0b4_28db) ^ 0xc0b1));
        history
    }

    fn add_copies(&mut self, random: &mut Random) {
        if !random.one_in(3) {
            return;
        }
        let (directories, same_names) = (1 + random.below(3) as usize, random.one_in(2));
        let bytes_max = pick(random, &[4_000, 20_000, 1 << 30]);
        let fails_one_in = pick(random, &[u64::MAX, 100, 10]);
        self.setup.local = Some(Local { directories, bytes_max, fails_one_in, same_names });
        for _ in 0..2 + random.below(8) {
            let one_in = 1 + random.below(4);
            let harm = match random.below(9) {
                0..3 => Harm::Lose { one_in },
                3..6 => Harm::Flip { one_in },
                6 => Harm::Gone { directory: random.below(3) },
                7 => Harm::Full,
                _ => Harm::Room,
            };
            let seed = random.next();
            self.insert(Event::Harm { seed, harm }, random);
        }
    }

    fn add_savepoints(&mut self, random: &mut Random) {
        if !random.one_in(2) {
            return;
        }
        let places = [Place::Elsewhere, Place::AmongJobs, Place::InTheJobs, Place::BelowTheJobs];
        self.setup.savepoints = Some(pick(random, &places));
        for _ in 0..1 + random.below(6) {
            let event = match random.below(4) {
                0 => Event::CommitSavepoint,
                _ => Event::Savepoint { pack: random.one_in(2), how: how(random), course: course(random) },
            };
            self.insert(event, random);
        }
    }

    /// Anywhere after the first.
    fn insert(&mut self, event: Event, random: &mut Random) {
        let at = 1 + random.below(self.events.len() as u64) as usize;
        self.events.insert(at, event);
    }
}

fn course(random: &mut Random) -> Course {
    match random.below(10) {
        0 | 1 => Course::Alone,
        2 => Course::Overtaken,
        3 => Course::Overtaking,
        4 => Course::Together,
        5 => Course::GivenUp(random.below(5)),
        6 => Course::Left(random.below(4)),
        7 | 8 => Course::Ready,
        _ => Course::Cut(random.below(60)),
    }
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

fn setup(random: &mut Random) -> Setup {
    let calm = Weather { late_ms_max: 20_000, slow_ms_max: 100, ..Weather::default() };
    let rough = Weather { before: 20, after: 20, late: 10, broken: 5, flipped: 5, slow_ms_max: 1_000, ..calm };
    let stormy =
        Weather { before: 80, after: 80, late: 40, broken: 20, flipped: 20, late_ms_max: 90_000, slow_ms_max: 10_000 };
    let setup = Setup {
        retained: 1 + random.below(3) as usize,
        across: random.one_in(2),
        amplification_max: pick(random, &[None, Some(1.3), Some(2.0)]),
        fold_ratio_max: pick(random, &[0.5, 1.0, 3.0]),
        file_bytes_max: pick(random, &[2_000, 6_000, 1 << 20]),
        inline_bytes_max: pick(random, &[0, 0, 300]),
        blocking: random.one_in(2),
        subtasks_per_file_max: pick(random, &[None, None, Some(1), Some(2)]),
        uploads_max: pick(random, &[1, 2, 4]),
        part_bytes: pick(random, &[700, 2_000, 8 << 20]),
        memory_bytes_max: pick(random, &[4_000, 1 << 20]),
        linger_ms: pick(random, &[0, 10, 1_000]),
        deletes_max: pick(random, &[1, 4]),
        delete_retries: random.below(3) as u32,
        metadata_version: pick(random, &[4, 5, 6]),
        workers: 1 + random.below(3) as usize,
        parallelism: 1 + random.below(5) as u32,
        chunk_bytes: pick(random, &[None, None, None, Some(1_000)]),
        weather: pick(random, &[calm, rough, rough, stormy]),
        proof_rounds: u32::from(random.one_in(10)),
        disposes: random.one_in(2),
        latest_file: false,
        savepoints: None,
        local: None,
    };
    // Without another number, so that seeds that have been named make the histories that they made.
    Setup { latest_file: setup.workers == 2, ..setup }
}

fn how(random: &mut Random) -> How {
    How { provisional: random.one_in(3), eager: random.one_in(3), lost_one_in: pick(random, &[1_000, 4]) }
}

fn event(random: &mut Random) -> Event {
    match random.below(100) {
        0..22 => Event::Work { seed: random.next(), chunks: 1 + random.below(8) },
        22..50 => Event::Checkpoint { how: how(random) },
        50..54 => Event::Abort { after: random.below(4), how: how(random) },
        54..57 => Event::Dangle { after: random.below(4), how: how(random) },
        57..64 => Event::Overlap {
            first: pick(random, &[Order::Before, Order::Between, Order::After, Order::Never]),
            how: how(random),
        },
        64..67 => Event::Settle,
        67..71 => Event::Rewrite { bytes_max: pick(random, &[1_000, 20_000]) },
        71..73 => Event::Leftovers,
        73..76 => {
            let call = pick(random, &[Call::Complete, Call::Settle, Call::Rewrite, Call::Leftovers]);
            Event::Cut { call, after_ms: random.below(60) }
        }
        76..78 => Event::Repeat { seed: random.next() },
        78..80 => Event::Wait { ms: pick(random, &[10, 1_000, 60_000]) },
        80..82 => Event::Throttle { ms: pick(random, &[200, 5_000]) },
        82..84 => Event::Stall { process: random.below(4), ms: pick(random, &[500, 120_000]) },
        84..86 => Event::FailTask { subtask: random.below(5) },
        86..88 => Event::FailWorker { worker: random.below(3) },
        88 => Event::Finish { subtask: random.below(5) },
        89..91 => {
            let parallelism = random.one_in(2).then(|| 1 + random.below(6) as u32);
            let retained = random.one_in(4).then(|| 1 + random.below(3) as usize);
            Event::Restart { parallelism, workers: 1 + random.below(3) as usize, retained }
        }
        91..96 => Event::CrashSoon { process: random.below(4), operations: random.below(30) },
        96..99 => {
            let all = [
                Act::Complete,
                Act::Abort,
                Act::Settle,
                Act::Rewrite,
                Act::Leftovers,
                Act::Dispose,
                Act::DisposeBeside,
            ];
            let acts = (0..1 + random.below(4)).map(|_| pick(random, &all)).collect();
            Event::Zombie { stall_ms: pick(random, &[0, 200, 60_000, 600_000]), acts, starts_first: random.one_in(2) }
        }
        _ if random.one_in(12) => Event::Large { seed: random.next() },
        _ => Event::Settle,
    }
}
