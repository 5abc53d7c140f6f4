//! A migration in words, for whoever ordered it: one line per thing that follows.

use super::{Migration, Mode, Pace};

impl Migration {
    /// What it comes to, if nothing gets in its way.
    pub fn beginning(&self) -> Vec<String> {
        let Self { from, to, total, progress, .. } = self;
        let move_on = if *total == 1 { "conversation moves" } else { "conversations move" };
        let mut lines = vec![format!("{total} {move_on} from {from} to {to}, {}", pace(&self.mode))];
        if progress.busy > 0 {
            lines.push(format!("{} have a response in flight, and move once it has ended", progress.busy));
        }
        if let Some(elsewhere) = self.elsewhere().filter(|elsewhere| *elsewhere > 0) {
            lines.push(format!("{elsewhere} of the listed conversations are not held to {from}, and stay as they are"));
        }
        lines
    }

    /// What stays as it is when it ends now.
    pub fn cancelling(&self) -> Vec<String> {
        let Self { from, to, progress, .. } = self;
        vec![
            format!("{} conversations have moved, and stay at {to}", progress.moved),
            format!("{} stay at {from}", progress.remaining),
        ]
    }
}

fn pace(mode: &Mode) -> String {
    match mode {
        Mode::Immediate | Mode::Manual { .. } => "at once".into(),
        Mode::Gradual(Pace::PerSecond(rate)) => format!("{rate} per second"),
        Mode::Gradual(Pace::Share { share, every }) => {
            format!("{share} of them now and after each {}", humantime::format_duration(*every))
        }
    }
}
