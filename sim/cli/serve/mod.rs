//! `faultbed serve`: a real client's memory. Owns the command: it listens, takes one
//! client's handshake, serves its faults until it goes away, and answers the control
//! socket meanwhile.
//!
//! # Failing closed
//!
//! A thread that waits for a page reads zeros as soon as the last copy of the userfaultfd
//! is closed (rule a21). A server that cannot go on therefore keeps its copy for as long
//! as the client's memory lives, unless it was told otherwise: [`OnFailure`]. A client
//! that closes its connection and lives on is such a case too.

pub mod client;
pub mod control;
pub mod handshake;
pub mod listen;

use std::any::Any;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use handler::drive::{Control, Driver};
use handler::{ImageFile, Policy, Region, RegionMap, Status, StopReason};
use shims::linux::{PollWaiter, UserFault};
use shims::{Addr, Features, PageSize, Waiter};

use crate::exit::{FOUND, Failed, OK};
use client::{Client, ClientError};
use control::{Command, Refusal, Steer};
use listen::Listener;

/// Serve the memory of a client that speaks Firecracker's handshake: wait for it on
/// SOCKET, answer its faults from MEMORY_FILE, and end when it goes away.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The client connects and sends one JSON array with its regions (base_host_virt_addr, size,
offset, page_size in bytes) and, by SCM_RIGHTS, its userfaultfd; it has done UFFDIO_API and
UFFDIO_REGISTER by then. Pages of 4 KiB and of 2 MiB are served, and REMOVE messages: a
page that the client has dropped is zero ever after. A client with a wrong handshake is
turned away with a message on standard error, and the next one is waited for.

The control socket takes a command a line; each reply is `error MESSAGE` or `ok N` and N
bytes:
  states        a record for each page that was touched, sorted by offset: state (u8: 1 clean,
                2 dirty, 3 zero, 4 removed, 5 poisoned, 6 ambiguous), offset (u64, little-endian)
  states text   the same as lines of text
  pause         answer no more faults; they pile up in the kernel
  resume        answer them again
  stop          end; what the client has not touched by then, it reads as zeros, unless it
                keeps a copy of its userfaultfd as Firecracker does
  help          this list

Examples:
  faultbed serve /run/vm.sock vm.mem
  faultbed serve /run/vm.sock vm.mem --control /run/vm.control --on-failure kill
  echo 'states text' | socat - UNIX-CONNECT:/run/vm.control

Exit code: 0 the client went away or `stop` was asked, 1 serving failed, 2 bad usage, a
memory file that cannot be served or a socket that cannot be bound.")]
pub struct Serve {
    /// Where to listen; made with mode 0600, removed at the end.
    socket: PathBuf,
    /// The file whose bytes the client's memory shows; a whole number of pages.
    memory_file: PathBuf,
    /// Where to listen for commands; made with mode 0600, removed at the end.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Which handler.
    #[arg(long, value_name = "NAME", default_value = "default")]
    handler: String,
    /// The handler's threads, besides the one that reads messages.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    workers: NonZeroUsize,
    /// What becomes of a client that cannot be served any more.
    #[arg(long, value_enum, default_value_t = OnFailure::Hold)]
    on_failure: OnFailure,
    /// Seconds that a client has for its handshake.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    handshake_timeout: u64,
}

/// What becomes of a client that cannot be served any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum OnFailure {
    /// Keep the userfaultfd until the client is gone, or `stop`: what it waits for, it waits for.
    Hold,
    /// Kill the client.
    Kill,
    /// Close the userfaultfd: the client goes on and reads zeros where pages are missing.
    Release,
}

/// How long a client's memory may outlive its connection before that is a failure.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a client's time ended.
enum Ending {
    /// It went away.
    Gone,
    /// Somebody asked.
    Stopped,
    /// It could not be served on.
    Failed(String),
}

type ClientWaiter = PollWaiter<Arc<UserFault>>;

/// What the server is at.
enum Stage {
    /// It waits for a client.
    Waiting,
    /// It serves one.
    Serving(Control<ClientWaiter>),
    /// It could not go on.
    Failed(String),
}

/// What the control socket steers.
struct Helm<'a> {
    stage: Mutex<Stage>,
    stop: AtomicBool,
    /// Ends the wait for a client.
    bell: &'a PollWaiter<&'a UnixListener>,
}

impl Helm<'_> {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The driver's handle; the lock is not held while it is used.
    fn driver(&self) -> Result<Control<ClientWaiter>, Refusal> {
        match &*self.stage() {
            Stage::Waiting => Err(Refusal::NoClient),
            Stage::Serving(control) => Ok(control.clone()),
            Stage::Failed(why) => Err(Refusal::Failed(why.clone())),
        }
    }
}

impl Steer for Helm<'_> {
    fn carry_out(&self, command: Command) -> Result<Vec<u8>, Refusal> {
        let states = || {
            let driver = self.driver()?;
            driver.snapshot().map_err(|e| match driver.status() {
                Status::Failed(_) => Refusal::Failed(e.to_string()),
                _ => Refusal::NoClient,
            })
        };
        match command {
            Command::States => return Ok(states()?.encode()),
            Command::StatesText => return Ok(states()?.to_string().into_bytes()),
            Command::Pause => self.driver()?.pause(),
            Command::Resume => self.driver()?.resume(),
            Command::Stop => {
                self.stop.store(true, Ordering::Release);
                self.bell.notify();
                if let Ok(driver) = self.driver() {
                    driver.stop();
                }
            }
            Command::Help => return Ok(control::HELP.as_bytes().to_vec()),
        }
        Ok(Vec::new())
    }
}

fn log(message: impl std::fmt::Display) {
    crate::out::note(format_args!("faultbed serve: {message}"));
}

impl Serve {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let policy = Policy::by_name(&self.handler).ok_or_else(|| {
            let names = Policy::NAMES.join(", ");
            Failed::usage(format!("no handler is called {:?}; there are {names}", self.handler))
        })?;
        // Opened again in the client's page size; what is wrong with it is said at once.
        let image = ImageFile::open(&self.memory_file, PageSize::KIB4).map_err(Failed::usage)?;
        let listener = Listener::bind(&self.socket).map_err(Failed::usage)?;
        let control = self.control.as_deref().map(Listener::bind).transpose();
        let control = control.map_err(Failed::usage)?;

        let eventfd = |e| Failed::io(format!("an eventfd: {e}"));
        let bell = PollWaiter::new(listener.socket()).map_err(eventfd)?;
        let helm =
            Helm { stage: Mutex::new(Stage::Waiting), stop: AtomicBool::new(false), bell: &bell };
        let (closing, open) = (AtomicBool::new(false), AtomicUsize::new(0));
        let Some(control) = &control else {
            return self.serve_one(&policy, &image, &listener, &helm);
        };
        let control_bell = PollWaiter::new(control.socket()).map_err(eventfd)?;
        std::thread::scope(|scope| {
            let answer = || {
                if let Err(e) = control::run(scope, control, &control_bell, &helm, &closing, &open)
                {
                    log(format_args!("the control socket answers no more: {e}"));
                }
            };
            std::thread::Builder::new()
                .name("control".into())
                .spawn_scoped(scope, answer)
                .map_err(|e| Failed::io(format!("starting a thread: {e}")))?;
            let ended = self.serve_one(&policy, &image, &listener, &helm);
            closing.store(true, Ordering::Release);
            control_bell.notify();
            ended
        })
    }

    /// Wait for a client whose handshake is right, and serve it.
    fn serve_one(
        &self,
        policy: &Policy,
        image: &ImageFile,
        listener: &Listener,
        helm: &Helm<'_>,
    ) -> Result<ExitCode, Failed> {
        let broken = |e: &dyn std::fmt::Display| Failed::io(format!("the socket is broken: {e}"));
        listener.socket().set_nonblocking(true).map_err(|e| broken(&e))?;
        log(format_args!("waiting for a client on {}", self.socket.display()));
        loop {
            helm.bell.wait(None).map_err(|e| broken(&e))?;
            if helm.stopping() {
                log("stopped before a client came");
                return Ok(OK);
            }
            // A client may have gone between the wait and this.
            let Ok((socket, _)) = listener.socket().accept() else { continue };
            let patience = Duration::from_secs(self.handshake_timeout);
            let greeted = Client::greet(socket, image.len(), patience, &|| helm.stopping());
            let started = greeted
                .map_err(|e| match e {
                    ClientError::Stopped => None,
                    e => Some(e.to_string()),
                })
                .and_then(|client| self.driver(policy, image, client).map_err(Some));
            match started {
                Ok(serving) => return Ok(self.attend(serving, helm)),
                Err(Some(why)) => log(format_args!("client turned away: {why}")),
                Err(None) => {}
            }
        }
    }

    /// A driver for `client`, its first ioctl still to come.
    fn driver(
        &self,
        policy: &Policy,
        image: &ImageFile,
        client: Client,
    ) -> Result<Serving, String> {
        let Client { socket, uffd, regions, features, process } = client;
        let page = regions[0].host.page_size();
        let source = ImageFile::open(&self.memory_file, page).map_err(|e| e.to_string())?;
        if source.len() != image.len() {
            return Err(format!(
                "the memory file had {} bytes when the server started and has {} now",
                image.len(),
                source.len()
            ));
        }
        if !features.contains(Features::EVENT_REMOVE) {
            log("the client's userfaultfd does not report REMOVE: pages that it drops will \
                 show the memory file again");
        }
        let from = match &process {
            Some(process) => format!("process {}", process.pid),
            None => "a process that is not told".into(),
        };
        let bytes: u64 = regions.iter().map(|region| region.host.len().bytes()).sum();
        let greeting = format!(
            "serving {from}: {} MiB in {} regions, pages of {page}",
            bytes >> 20,
            regions.len()
        );
        let probe = regions[0].host.start();
        let regions = regions.iter().map(|r| Region { host: r.host, offset: r.offset }).collect();
        let regions = RegionMap::new(regions).map_err(|e| e.to_string())?;
        let uffd = Arc::new(uffd);
        let peer = socket.try_clone().map_err(|e| e.to_string())?;
        let waiter =
            PollWaiter::new(Arc::clone(&uffd)).map_err(|e| e.to_string())?.with_peer(peer.into());
        Ok(Serving {
            socket,
            process,
            greeting,
            probe,
            parts: Parts { policy: policy.clone(), regions, waiter, source },
            uffd,
        })
    }

    /// Serve until it ends, one way or another.
    fn attend(&self, serving: Serving, helm: &Helm<'_>) -> ExitCode {
        let Serving { socket, process, greeting, probe, parts, uffd } = serving;
        let stop = || helm.stopping();
        let why = match self.drive(parts, &uffd, &greeting, helm) {
            Ending::Stopped => {
                log("stopped");
                return OK;
            }
            // The connection may end a moment before the memory does.
            Ending::Gone if client::wait_for_end(&uffd, probe, Some(FAREWELL), &stop) => {
                log("the client has gone");
                return OK;
            }
            Ending::Gone if helm.stopping() => {
                log("stopped");
                return OK;
            }
            Ending::Gone => "the client has closed its connection but lives on".into(),
            Ending::Failed(why) => why,
        };
        log(format_args!("serving failed: {why}"));
        *helm.stage() = Stage::Failed(why);
        match (self.on_failure, process) {
            (OnFailure::Release, _) => {
                log("releasing the client: what is missing reads as zeros");
                return FOUND;
            }
            (OnFailure::Kill, Some(process)) => match process.kill() {
                Ok(()) => log(format_args!("killed process {}", process.pid)),
                Err(e) => log(format_args!("killing process {}: {e}", process.pid)),
            },
            (OnFailure::Kill, None) => log("the client's process is not known"),
            (OnFailure::Hold, _) => {}
        }
        log("holding the userfaultfd until the client has gone");
        client::wait_for_end(&uffd, probe, None, &stop);
        // The connection is kept as long: its end would tell the client that all is over.
        drop(socket);
        FOUND
    }

    fn drive(
        &self,
        parts: Parts,
        uffd: &Arc<UserFault>,
        greeting: &str,
        helm: &Helm<'_>,
    ) -> Ending {
        let Parts { policy, regions, waiter, source } = parts;
        let driver = match Driver::new(policy, regions, &**uffd, waiter, source) {
            Ok(driver) => driver,
            Err(e) => return Ending::Failed(e.to_string()),
        };
        *helm.stage() = Stage::Serving(driver.control());
        // Whoever reads this may use the control socket.
        log(greeting);
        if helm.stopping() {
            driver.control().stop();
        }
        // A panic must not unwind past the descriptor: closing it would let the client
        // read zeros.
        let serve = AssertUnwindSafe(|| driver.run_threads(self.workers));
        match catch_unwind(serve).map(|report| report.status) {
            Ok(Status::Stopped(StopReason::PeerGone)) => Ending::Gone,
            Ok(Status::Stopped(StopReason::Requested)) => Ending::Stopped,
            Ok(Status::Failed(e)) => Ending::Failed(e.to_string()),
            Ok(Status::Running) => Ending::Failed("the driver ended without a reason".into()),
            Err(panic) => Ending::Failed(format!("a panic: {}", what(&*panic))),
        }
    }
}

/// A client that is about to be served.
struct Serving {
    socket: std::os::unix::net::UnixStream,
    process: Option<client::Process>,
    greeting: String,
    /// An address in its memory.
    probe: Addr,
    parts: Parts,
    uffd: Arc<UserFault>,
}

/// What a driver is made of.
struct Parts {
    policy: Policy,
    regions: RegionMap,
    waiter: ClientWaiter,
    source: ImageFile,
}

/// What a panic said.
fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
