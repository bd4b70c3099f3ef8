//! How does a test run another process that starts a cluster, and where does that lie?

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use backstitch_postgres::test::private_cluster;
use backstitch_postgres::{Cluster, Durability, Stop};
use rustix::process::{Pid, Signal, kill_process_group};

const DIRECTORY: &str = "BACKSTITCH_CHILD_DIRECTORY";
const NOBODY: u32 = 65534;

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for a cluster that does not exist yet; it is stopped and removed with this.
pub struct Home {
    _parent: tempfile::TempDir,
    directory: PathBuf,
}

impl Home {
    pub fn new() -> Home {
        Home::named("postgres")
    }

    pub fn named(name: &str) -> Home {
        let parent = tempfile::tempdir().unwrap();
        // Whoever runs the server has to get through.
        open(parent.path());
        let directory = parent.path().join(name);
        Home { _parent: parent, directory }
    }

    pub fn of_nobody() -> Home {
        let home = Home::new();
        std::fs::create_dir(&home.directory).unwrap();
        std::os::unix::fs::chown(&home.directory, Some(NOBODY), Some(NOBODY)).unwrap();
        home
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn throwaway(&self) -> Cluster {
        Cluster::at(&self.directory).durability(Durability::Throwaway)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Not to panic while a failed test unwinds.
        let cluster = self.throwaway();
        let stopping = std::thread::spawn(move || runtime().block_on(cluster.stop(Stop::Immediate)));
        if !matches!(stopping.join(), Ok(Ok(()))) {
            eprintln!("the server in {} would not stop", self.directory.display());
        }
    }
}

/// A process in a group of its own that starts a cluster, says which, and then stays.
pub struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Child {
    pub fn starting(directory: &Path) -> Child {
        Child::spawn(Command::new(std::env::current_exe().unwrap()), "child::start", directory)
    }

    /// Takes a database and a private cluster, as a test does.
    pub fn testing() -> Child {
        let command = Command::new(std::env::current_exe().unwrap());
        Child::spawn(command, "child::test", Path::new("unused"))
    }

    /// From a copy of this program, as nobody may be kept from where it lies.
    pub fn starting_as_nobody(directory: &Path) -> Child {
        let copy = directory.with_file_name("test-of-nobody");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut command = Command::new(copy);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        Child::spawn(command, "child::start", directory)
    }

    fn spawn(mut command: Command, what: &str, directory: &Path) -> Child {
        command.args(["--exact", what, "--ignored", "--nocapture"]);
        command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Child { process, output }
    }

    /// Waits for the process id of the server it got.
    pub fn server(&mut self) -> String {
        self.said("server")
    }

    /// Waits until it says `name=value`.
    pub fn said(&mut self, name: &str) -> String {
        let start = format!("{name}=");
        let mut lines = self.output.by_ref().lines().map(Result::unwrap);
        let value = lines.find_map(|line| line.split_once(&start).map(|(_, value)| value.to_owned()));
        value.unwrap_or_else(|| panic!("the child should have said its {name}"))
    }

    /// Lets it end as it likes.
    pub fn finish(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills its process group, and waits for the end of its output.
    pub fn kill_group(&mut self) {
        let group = Pid::from_child(&self.process);
        kill_process_group(group, Signal::KILL).unwrap();
        self.process.wait().unwrap();
        std::io::copy(&mut self.output, &mut std::io::sink()).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
#[ignore = "what the other process does"]
fn start() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let cluster = Cluster::at(directory).durability(Durability::Throwaway);
    runtime().block_on(cluster.start()).unwrap();
    println!("server={}", cluster.postmaster_pid().unwrap().unwrap());
    stay();
}

#[test]
#[ignore = "what the other process does"]
fn test() {
    if std::env::var_os(DIRECTORY).is_none() {
        return;
    }
    let database = runtime().block_on(backstitch_postgres::test::database());
    let private = runtime().block_on(private_cluster(Durability::Throwaway));
    println!("database={}", database.name);
    println!("private={}", private.cluster.directory().display());
    stay();
}

/// Until killed, or until the one who waits for us is gone.
fn stay() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Another process of that user, which does nothing.
pub fn sleeper(uid: u32, gid: u32) -> std::process::Child {
    let mut command = Command::new("sleep");
    command.arg("600").current_dir("/");
    if is_root() {
        command.uid(uid).gid(gid);
    }
    command.spawn().unwrap()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks until it is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
