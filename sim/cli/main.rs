//! The `faultbed` command: reads its arguments, hands over, reports what ended it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Search, replay and serve userfaultfd handlers.
#[derive(Parser, Debug)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Explore(faultbed::explore::Explore),
    Replay(faultbed::replay::Replay),
    Shrink(faultbed::shrink::Shrink),
    Merge(faultbed::merge::Merge),
    Zoo(faultbed::zoo::Zoo),
    Check(faultbed::check::Check),
    Run(faultbed::run::RunFile),
    Litmus(faultbed::litmus::Litmus),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Conform(faultbed::conform::Conform),
    #[cfg(target_os = "linux")]
    Stress(faultbed::stress::Stress),
    #[cfg(target_os = "linux")]
    Serve(faultbed::serve::Serve),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Explore(explore) => explore.run(),
        Command::Replay(replay) => replay.run(),
        Command::Shrink(shrink) => shrink.run(),
        Command::Merge(merge) => merge.run(),
        Command::Zoo(zoo) => zoo.run(),
        Command::Check(check) => check.run(),
        Command::Run(run) => run.run(),
        Command::Litmus(litmus) => litmus.run(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::Conform(conform) => conform.run(),
        #[cfg(target_os = "linux")]
        Command::Stress(stress) => stress.run(),
        #[cfg(target_os = "linux")]
        Command::Serve(serve) => serve.run(),
    };
    result.unwrap_or_else(|failed| {
        let message = failed.to_string();
        if !message.is_empty() {
            faultbed::out::note(format_args!("faultbed: {message}"));
        }
        failed.code()
    })
}
