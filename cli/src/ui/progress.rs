//! Progress on stderr: only on a terminal, and only for work that takes more than a second.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar or spinner; it goes away when dropped.
pub struct Progress {
    bar: ProgressBar,
    /// Ends the thread that shows the bar after a second.
    watcher: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// A spinner for one step of unknown length.
    pub fn spinner(message: impl Into<String>) -> Self {
        Self::start(ProgressBar::no_length(), "{spinner} {msg} {elapsed}", message.into())
    }

    /// A bar over `steps`.
    pub fn bar(steps: usize, message: impl Into<String>) -> Self {
        let bar = ProgressBar::new(steps as u64);
        Self::start(bar, "{spinner} [{bar:24}] {pos}/{len} {msg} {elapsed}", message.into())
    }

    /// A bar over bytes whose number comes later.
    pub fn bytes(message: impl Into<String>) -> Self {
        let template = "{spinner} [{bar:24}] {bytes}/{total_bytes} {msg} {elapsed}";
        Self::start(ProgressBar::new(0), template, message.into())
    }

    /// `done` of `total`.
    pub fn at(&self, done: u64, total: u64, message: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
    }

    fn start(bar: ProgressBar, template: &str, message: String) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if !std::io::stderr().is_terminal() {
            return Progress { bar, watcher: None };
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(message);
        let (sender, receiver) = mpsc::channel();
        let shown = bar.clone();
        let watcher = thread::spawn(move || {
            if receiver.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(100));
            }
        });
        Progress { bar, watcher: Some((sender, watcher)) }
    }

    /// What is being done now.
    pub fn message(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// One step done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// Clears the bar while `print` writes to stdout.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, watcher)) = self.watcher.take() {
            drop(sender);
            let _ = watcher.join();
        }
        self.bar.finish_and_clear();
    }
}
