//! Workers and their guardian: no worker and no child of one outlives the router.
//!
//! A death signal (`PR_SET_PDEATHSIG`) reaches a worker but not what it forked. So a guardian stands between: a fork of the
//! router that adopts every orphan below it (`PR_SET_CHILD_SUBREAPER`) and holds the read end of a pipe whose other end only
//! the router has. When that end closes, by whatever death, the guardian kills its children until it has none: an orphan
//! becomes its child and is killed too, whatever session or group it moved to. Should the guardian itself be killed, the
//! worker's own death signal is left.
//!
//! After the fork only system calls are made: the router has threads.

use rustix::process::{Pid, Signal};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What the guardian tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The command could not be run.
    NotRun {
        errno: i32,
    },
    /// The worker's first process ended; its children may live on.
    Exited {
        code: i32,
    },
    Killed {
        signal: i32,
    },
    /// No process of the worker is left.
    Gone,
}

/// One worker command.
pub struct Worker {
    guardian: Pid,
    /// Closed to have everything killed.
    life: Option<OwnedFd>,
    news: OwnedFd,
    gone: bool,
}

impl Worker {
    /// Starts a command that inherits these descriptors under their numbers. The arguments are whole, the program first;
    /// `variables` (`NAME=value`) stand in its environment beside ours.
    pub fn start(
        command: &[CString],
        folder: Option<&CStr>,
        inherited: &[RawFd],
        variables: &[CString],
    ) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (life_read, life) = rustix::pipe::pipe_with(flags)?;
        let (news, news_write) = rustix::pipe::pipe_with(flags)?;
        let mut arguments: Vec<*const libc::c_char> = command.iter().map(|text| text.as_ptr()).collect();
        arguments.push(std::ptr::null());
        let ours = environment(variables);
        let mut environment: Vec<*const libc::c_char> = ours.iter().map(|text| text.as_ptr()).collect();
        environment.push(std::ptr::null());
        let mut kept = inherited.to_vec();
        kept.extend([life_read.as_raw_fd(), news_write.as_raw_fd()]);
        kept.sort_unstable();
        let plan = Plan {
            arguments: &arguments,
            environment: &environment,
            folder,
            inherited,
            kept: &kept,
            life: life_read.as_raw_fd(),
            news: news_write.as_raw_fd(),
        };
        // SAFETY: the child makes system calls only and never returns.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => guard(&plan),
            pid => {
                rustix::io::ioctl_fionbio(&news, true)?;
                let guardian = Pid::from_raw(pid).ok_or_else(io::Error::last_os_error)?;
                Ok(Self { guardian, life: Some(life), news, gone: false })
            }
        }
    }

    /// Readable when there is news.
    pub fn fd(&self) -> RawFd {
        self.news.as_raw_fd()
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The next news, None where there is none.
    pub fn news(&mut self) -> Option<News> {
        if self.gone {
            return None;
        }
        let mut message = [0u8; 8];
        match rustix::io::read(&self.news, &mut message) {
            Ok(8) => {
                let [kind, value] =
                    [0, 4].map(|at| i32::from_le_bytes(*message[at..].first_chunk().unwrap_or(&[0; 4])));
                Some(match kind {
                    NOT_RUN => News::NotRun { errno: value },
                    _ if libc::WIFSIGNALED(value) => News::Killed { signal: libc::WTERMSIG(value) },
                    _ => News::Exited { code: libc::WEXITSTATUS(value) },
                })
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            _ => {
                self.gone = true;
                // It has ended or is about to.
                let _ = rustix::process::waitpid(Some(self.guardian), rustix::process::WaitOptions::empty());
                Some(News::Gone)
            }
        }
    }

    /// Has every process of the worker killed. [`News::Gone`] follows.
    pub fn kill(&mut self) {
        self.life = None;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.life = None;
        if !self.gone {
            let _ = rustix::process::waitpid(Some(self.guardian), rustix::process::WaitOptions::empty());
        }
    }
}

/// Our environment with these variables in it, in place of any of the same names.
fn environment(variables: &[CString]) -> Vec<CString> {
    let name = |text: &[u8]| text.iter().position(|&byte| byte == b'=').map_or(text.len(), |at| at + 1);
    let mut all = variables.to_vec();
    for (key, value) in std::env::vars_os() {
        let text = [key.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat();
        if !variables.iter().any(|own| own.as_bytes()[..name(own.as_bytes())] == text[..name(&text)]) {
            // A variable cannot hold a zero byte.
            all.extend(CString::new(text));
        }
    }
    all
}

const NOT_RUN: i32 = 1;
const ENDED: i32 = 2;

struct Plan<'a> {
    arguments: &'a [*const libc::c_char],
    environment: &'a [*const libc::c_char],
    folder: Option<&'a CStr>,
    inherited: &'a [RawFd],
    /// What stays open in the guardian, ascending.
    kept: &'a [RawFd],
    life: RawFd,
    news: RawFd,
}

fn tell(news: RawFd, kind: i32, value: i32) {
    let mut message = [0u8; 8];
    message[..4].copy_from_slice(&kind.to_le_bytes());
    message[4..].copy_from_slice(&value.to_le_bytes());
    // SAFETY: eight valid bytes; a router that is gone needs no news.
    unsafe { libc::write(news, message.as_ptr().cast(), message.len()) };
}

/// The guardian's life. It is in a process group of its own, so that Ctrl-C reaches the router alone and workers end by the end
/// of their input.
fn guard(plan: &Plan<'_>) -> ! {
    // SAFETY: system calls on valid arguments only.
    unsafe {
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"tape-guardian".as_ptr(), 0, 0, 0);
        let mut next = 3;
        for &fd in plan.kept {
            if fd > next {
                libc::syscall(libc::SYS_close_range, next, fd - 1, 0);
            }
            next = fd + 1;
        }
        libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, 0);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        libc::sigaddset(&mut mask, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
        let children = libc::signalfd(-1, &mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let own = libc::getpid();
        let worker = libc::fork();
        if worker == 0 {
            run(plan, own);
        }
        if worker < 0 {
            tell(plan.news, NOT_RUN, *libc::__errno_location());
            libc::_exit(0);
        }
        for &fd in plan.inherited {
            libc::close(fd);
        }
        watch(plan, worker, children)
    }
}

/// Becomes the worker.
///
/// # Safety
/// Called between fork and exec only.
unsafe fn run(plan: &Plan<'_>, guardian: libc::pid_t) -> ! {
    // SAFETY: system calls on valid arguments; arguments and environment end with a null pointer.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != guardian {
            libc::_exit(0);
        }
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
        for &fd in plan.inherited {
            libc::fcntl(fd, libc::F_SETFD, 0);
        }
        if plan.folder.is_none_or(|folder| libc::chdir(folder.as_ptr()) == 0) {
            libc::execvpe(plan.arguments[0], plan.arguments.as_ptr(), plan.environment.as_ptr());
        }
        tell(plan.news, NOT_RUN, *libc::__errno_location());
        libc::_exit(127)
    }
}

/// Waits for the ends of children and for the router's.
///
/// # Safety
/// Called in the guardian only: it ends the process.
unsafe fn watch(plan: &Plan<'_>, worker: libc::pid_t, children: RawFd) -> ! {
    // SAFETY: system calls on valid arguments only.
    unsafe {
        let mut killing = false;
        loop {
            let event = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut fds = [event(children), event(if killing { -1 } else { plan.life })];
            // While killing, orphans may arrive without a signal to us.
            libc::poll(fds.as_mut_ptr(), 2, if killing { 10 } else { -1 });
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            while libc::read(children, std::ptr::from_mut(&mut info).cast(), size_of_val(&info)) > 0 {}
            killing |= fds[1].revents != 0;
            if killing {
                kill_children();
            }
            loop {
                let mut status = 0;
                match libc::waitpid(-1, &mut status, libc::WNOHANG) {
                    0 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    -1 => libc::_exit(0),
                    pid if pid == worker => tell(plan.news, ENDED, status),
                    _ => {}
                }
            }
        }
    }
}

/// Kills every direct child; their children become ours and are next.
fn kill_children() {
    let mut text = [0u8; 4096];
    // SAFETY: system calls on valid buffers; `/proc/thread-self` is the guardian's one thread.
    let length = unsafe {
        let fd = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            // A kernel without this file: the group is what can be reached, and it includes us.
            libc::kill(0, libc::SIGKILL);
        }
        let length = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        usize::try_from(length).unwrap_or(0)
    };
    let mut pid = 0;
    for byte in &text[..length] {
        match byte {
            b'0'..=b'9' => pid = pid * 10 + i32::from(byte - b'0'),
            _ => {
                // A number that the buffer's end cut off has no space behind it and waits for the next round.
                if let Some(child) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(child, Signal::KILL);
                }
                pid = 0;
            }
        }
    }
}
