//! How is the demo told to its reader?

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The story so far, and how long each act took.
#[derive(Default)]
pub struct Screen {
    acts: Vec<(String, Instant, Duration)>,
}

impl Screen {
    /// A new act begins.
    pub fn act(&mut self, title: &str) {
        self.close();
        let number = self.acts.len() + 1;
        println!("\n{}", bold(&format!("━━ {number} · {title}")));
        self.acts.push((title.to_owned(), Instant::now(), Duration::ZERO));
    }

    /// Something happened.
    pub fn line(&self, text: &str) {
        println!("   {text}");
    }

    /// Somebody types this.
    pub fn command(&self, text: &str) {
        println!("   {}", bold(&format!("$ {text}")));
    }

    /// What a command printed.
    pub fn printed(&self, text: &str) {
        for line in text.lines() {
            println!("   │ {line}");
        }
    }

    /// How long each act took.
    pub fn times(&mut self) {
        self.close();
        println!();
        for (title, _, took) in &self.acts {
            println!("{:>7.1} s  {title}", took.as_secs_f64());
        }
        let all: Duration = self.acts.iter().map(|(_, _, took)| *took).sum();
        println!("{:>7.1} s  in all", all.as_secs_f64());
    }

    fn close(&mut self) {
        if let Some((_, began, took)) = self.acts.last_mut()
            && took.is_zero()
        {
            *took = began.elapsed();
        }
    }
}

fn bold(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !plain { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
