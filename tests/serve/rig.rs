//! Servers and clients as processes, and patience with a limit: whatever does not happen
//! in time fails the test, and no process outlives it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handler::PageStates;
use shims::linux::{Capability, OpenFlags};
use shims::{Features, PageSize};

/// How long something that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long something that must not happen is watched.
pub const NAP: Duration = Duration::from_millis(150);

/// A folder that goes with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("faultbed-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A memory file in which no word is zero and no two pages are alike.
    pub fn image(&self, bytes: u64) -> PathBuf {
        let path = self.path("memory");
        let words = (0..bytes / 8).flat_map(|word| image_word(word * 8).to_ne_bytes());
        std::fs::write(&path, words.collect::<Vec<u8>>()).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The word at `offset` of every memory file here.
pub fn image_word(offset: u64) -> u64 {
    (offset | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Is there a kernel that the test can run on?
pub fn kernel(test: &str) -> bool {
    let features = Features::EVENT_REMOVE | Features::MISSING_HUGETLBFS;
    Capability::gate(test, OpenFlags::empty(), features).is_some()
}

/// Lines of a pipe as they come, kept for error messages too.
struct Lines {
    rest: Receiver<String>,
    seen: Arc<Mutex<String>>,
}

fn lines(pipe: impl Read + Send + 'static) -> Lines {
    let (tell, rest): (Sender<String>, _) = channel();
    let seen = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&seen);
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            *log.lock().unwrap() += &format!("{line}\n");
            let _ = tell.send(line);
        }
    };
    std::thread::Builder::new().spawn(read).unwrap();
    Lines { rest, seen }
}

/// A process that is killed when the test is over.
struct Process(Child);

impl Process {
    /// Its exit status, which must come.
    fn wait(&mut self) -> ExitStatus {
        let (_bell, silence) = channel::<()>();
        for _ in 0..PATIENCE.as_millis() / 5 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            let _ = silence.recv_timeout(Duration::from_millis(5));
        }
        panic!("process {} does not end", self.0.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `faultbed serve`.
pub struct Server {
    process: Process,
    log: Lines,
    pub socket: PathBuf,
    control: PathBuf,
}

impl Server {
    /// Serve `image`, and wait until the socket is there.
    pub fn start(scratch: &Scratch, image: &Path, options: &[&str]) -> Server {
        let mut server = Server::spawn(scratch, image, options);
        server.expect_log("waiting for a client");
        server
    }

    /// The same, but it may fail at once.
    pub fn spawn(scratch: &Scratch, image: &Path, options: &[&str]) -> Server {
        let (socket, control) = (scratch.path("socket"), scratch.path("control"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_faultbed"))
            .arg("serve")
            .args([&socket, image])
            .arg("--control")
            .arg(&control)
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines(child.stderr.take().unwrap());
        Server { process: Process(child), log, socket, control }
    }

    /// Wait until it logs a line that contains `text`; the line.
    #[track_caller]
    pub fn expect_log(&mut self, text: &str) -> String {
        loop {
            match self.log.rest.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("never logged {text:?}, but:\n{}", self.log.seen.lock().unwrap()),
            }
        }
    }

    /// Ask over the control socket; the body, or the error.
    pub fn ask(&self, command: &str) -> Result<Vec<u8>, String> {
        let mut stream = UnixStream::connect(&self.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        match status.trim_end().split_once(' ') {
            Some(("ok", length)) => {
                let mut body = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                Ok(body)
            }
            Some(("error", message)) => Err(message.to_owned()),
            _ => panic!("neither ok nor error: {status:?}"),
        }
    }

    /// The page states, as `(offset, state)`.
    pub fn states(&self) -> Vec<(u64, u8)> {
        let states = PageStates::decode(&self.ask("states").unwrap()).unwrap();
        states.records().iter().map(|record| (record.offset(), record.state())).collect()
    }

    /// Its exit code, and everything it logged.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let code = self.process.wait().code();
        // The pipe closes with the process; what is left in it is read on the way.
        while self.log.rest.recv_timeout(PATIENCE).is_ok() {}
        (code, self.log.seen.lock().unwrap().clone())
    }

    pub fn is_running(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_none()
    }
}

/// A running client.
pub struct Client {
    process: Process,
    input: Option<ChildStdin>,
    log: Lines,
    answers: BTreeMap<u64, String>,
    next: u64,
}

/// A question that a client may be asleep over.
#[derive(Clone, Copy)]
pub struct Asked(u64);

impl Client {
    /// A client that has sent its handshake.
    pub fn start(server: &Server, bytes: u64, page: PageSize, regions: u64) -> Client {
        let mut child = Command::new(env!("CARGO_BIN_EXE_faultbed-client"))
            .arg(&server.socket)
            .args([bytes, page.bytes(), regions].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, log) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        let ready = log.rest.recv_timeout(PATIENCE).expect("the client says that it is ready");
        assert_eq!(ready, "ready");
        Client { process: Process(child), input, log, answers: BTreeMap::new(), next: 0 }
    }

    /// Ask without waiting for the answer.
    pub fn begin(&mut self, question: &str) -> Asked {
        self.next += 1;
        writeln!(self.input.as_mut().unwrap(), "{} {question}", self.next).unwrap();
        Asked(self.next)
    }

    /// The answer, which must come.
    #[track_caller]
    pub fn answer(&mut self, asked: Asked) -> String {
        loop {
            if let Some(answer) = self.answers.remove(&asked.0) {
                return answer;
            }
            assert!(self.hear(PATIENCE), "the client sleeps for ever");
        }
    }

    /// Is the client asleep over it?
    pub fn sleeps_over(&mut self, asked: Asked) -> bool {
        while self.hear(NAP) {}
        !self.answers.contains_key(&asked.0)
    }

    /// Ask, and wait for the answer.
    #[track_caller]
    pub fn ask(&mut self, question: &str) -> String {
        let asked = self.begin(question);
        self.answer(asked)
    }

    /// The word at `offset`.
    #[track_caller]
    pub fn load(&mut self, offset: u64) -> u64 {
        let answer = self.ask(&format!("load {offset}"));
        u64::from_str_radix(answer.trim_start_matches("0x"), 16).unwrap()
    }

    /// End it.
    pub fn quit(&mut self) {
        drop(self.input.take());
        assert!(self.process.wait().success());
    }

    /// Kill it.
    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.wait();
    }

    /// Wait until somebody has killed it.
    pub fn killed(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.process.wait().signal() == Some(9)
    }

    fn hear(&mut self, patience: Duration) -> bool {
        match self.log.rest.recv_timeout(patience) {
            Ok(line) => {
                let (id, answer) = line.split_once(' ').unwrap();
                self.answers.insert(id.parse().unwrap(), answer.to_owned());
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => panic!("the client ended"),
        }
    }
}

/// Make the file `path` `bytes` long.
pub fn resize(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}
