//! What had finished when a checkpoint was taken, against the job that is to start from it.
//!
//! Records only ever flow out of what still runs. A task that had finished isn't run again, so nobody may send to it who is;
//! and such a job was never checkpointed: it was changed since.

use super::Restore;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Operator, OperatorSubtasks};
use crate::id::OperatorId;

/// A vertex of the job: operators that run one after the other in each of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// What to call it.
    pub name: String,
    /// Its operators.
    pub operators: Vec<OperatorId>,
    /// Whom it receives from.
    pub inputs: Vec<Input>,
}

/// An edge of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Who sends: a place in the list of vertices.
    pub from: usize,
    /// Which of its tasks to which.
    pub exchange: Exchange,
}

/// Which tasks send to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Each to one or a few.
    Pointwise,
    /// All to all.
    AllToAll,
}

/// How much of a vertex had finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Running,
    Partly,
    Finished,
}

impl Restore {
    /// May a job of these vertices go on from here, by what had finished? Whose state isn't here hadn't.
    ///
    /// # Errors
    /// `Invalid`: an operator of a vertex had finished, or some of its subtasks had, and another's hadn't; or a vertex had
    /// finished to which one sends that hadn't; or some of a vertex's tasks had to each of which somebody sends who still
    /// ran; or an input is of no vertex.
    pub fn check_finished(&self, vertices: &[Vertex]) -> Result<()> {
        let progress = vertices.iter().map(|vertex| self.progress(vertex)).collect::<Result<Vec<_>>>()?;
        for (vertex, &own) in vertices.iter().zip(&progress) {
            for input in &vertex.inputs {
                let (Some(sender), Some(&theirs)) = (vertices.get(input.from), progress.get(input.from)) else {
                    let message =
                        format!("vertex {} has an input from vertex {}: there is none", vertex.name, input.from);
                    return Err(Error::new(ErrorKind::Invalid, message));
                };
                let least = match (own, input.exchange) {
                    (Progress::Running, _) => Progress::Running,
                    (Progress::Partly, Exchange::Pointwise) => Progress::Partly,
                    (Progress::Partly, Exchange::AllToAll) | (Progress::Finished, _) => Progress::Finished,
                };
                if theirs < least {
                    return Err(self.changed(vertex, own, sender, theirs));
                }
            }
        }
        Ok(())
    }

    fn changed(&self, vertex: &Vertex, own: Progress, sender: &Vertex, theirs: Progress) -> Error {
        let message = format!(
            "{}: vertex {} {own} when it was taken, but {}, which sends to it, {theirs}: the job was changed since; take \
             a checkpoint of the job as it was before anything finishes, and change it then",
            self.checkpoint().named(),
            vertex.name,
            sender.name,
        );
        Error::new(ErrorKind::Invalid, message)
    }

    /// That of its operators, which is one.
    fn progress(&self, vertex: &Vertex) -> Result<Progress> {
        let mut all = vertex.operators.iter().map(|id| {
            let found = self.operators().iter().find(|operator| operator.id == *id);
            found.map_or(Progress::Running, of_operator)
        });
        let first = all.next().unwrap_or(Progress::Running);
        match all.find(|other| *other != first) {
            None => Ok(first),
            Some(other) => {
                let message = format!(
                    "{}: vertex {}: one of its operators {first} when it was taken, and another {other}; they run in one \
                     task, so one was added or moved since",
                    self.checkpoint().named(),
                    vertex.name
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }
}

fn of_operator(operator: &Operator) -> Progress {
    match &operator.subtasks {
        OperatorSubtasks::FullyFinished => Progress::Finished,
        OperatorSubtasks::Reported(entries) if entries.iter().any(|entry| entry.state.is_none()) => Progress::Partly,
        OperatorSubtasks::Reported(_) => Progress::Running,
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "was running",
            Self::Partly => "had finished in part",
            Self::Finished => "had finished",
        })
    }
}
