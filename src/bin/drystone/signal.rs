//! What ends a command from outside: an interrupt from the keyboard, or a request to terminate.

use std::fmt;
use std::process::ExitCode;

/// Which of them it was.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// As a shell has it for a process that the signal ended: 128, and its number.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        })
    }
}

/// Takes the signals from the system's own handling, from when it is made until the process ends.
#[cfg(unix)]
pub struct Endings {
    interrupts: tokio::signal::unix::Signal,
    terminations: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Endings {
    /// Within a runtime.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupts: signal(SignalKind::interrupt())?, terminations: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> Ending {
        tokio::select! {
            biased;
            Some(()) = self.interrupts.recv() => Ending::Interrupt,
            Some(()) = self.terminations.recv() => Ending::Terminate,
            else => std::future::pending().await,
        }
    }
}

/// Elsewhere there are interrupts only.
#[cfg(not(unix))]
pub struct Endings;

#[cfg(not(unix))]
impl Endings {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> Ending {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Ending::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
