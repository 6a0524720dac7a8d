//! Which calls of the kernel a container may make: as Docker's default profile without more capabilities than its
//! default (moby, profiles/seccomp/default.json), but for programs of 32 bits, which are not run, and for what reserves
//! room on a disk.

use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter};
use std::collections::BTreeMap;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

use libc::*;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Allowed whatever their arguments are.
const ALLOWED: &[c_long] = &[
    SYS_accept,
    SYS_accept4,
    SYS_adjtimex,
    SYS_bind,
    SYS_brk,
    SYS_capget,
    SYS_capset,
    SYS_chdir,
    SYS_chroot,
    SYS_clock_adjtime,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_close_range,
    SYS_connect,
    SYS_copy_file_range,
    SYS_dup,
    SYS_dup3,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_execve,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fadvise64,
    SYS_fallocate,
    SYS_fanotify_mark,
    SYS_fchdir,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_fgetxattr,
    SYS_flistxattr,
    SYS_flock,
    SYS_fremovexattr,
    SYS_fsetxattr,
    SYS_fstat,
    SYS_fstatfs,
    SYS_fsync,
    SYS_ftruncate,
    SYS_futex,
    SYS_futex_waitv,
    SYS_getcpu,
    SYS_getcwd,
    SYS_getdents64,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getitimer,
    SYS_getpeername,
    SYS_getpgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getpriority,
    SYS_getrandom,
    SYS_getresgid,
    SYS_getresuid,
    SYS_getrlimit,
    SYS_get_robust_list,
    SYS_getrusage,
    SYS_getsid,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_getuid,
    SYS_getxattr,
    SYS_inotify_add_watch,
    SYS_inotify_init1,
    SYS_inotify_rm_watch,
    SYS_io_cancel,
    SYS_ioctl,
    SYS_io_destroy,
    SYS_io_getevents,
    SYS_ioprio_get,
    SYS_ioprio_set,
    SYS_io_setup,
    SYS_io_submit,
    SYS_kill,
    SYS_landlock_add_rule,
    SYS_landlock_create_ruleset,
    SYS_landlock_restrict_self,
    SYS_lgetxattr,
    SYS_linkat,
    SYS_listen,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_lremovexattr,
    SYS_lseek,
    SYS_lsetxattr,
    SYS_madvise,
    SYS_membarrier,
    SYS_memfd_create,
    SYS_memfd_secret,
    SYS_mincore,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_mmap,
    SYS_mprotect,
    SYS_mq_getsetattr,
    SYS_mq_notify,
    SYS_mq_open,
    SYS_mq_timedreceive,
    SYS_mq_timedsend,
    SYS_mq_unlink,
    SYS_mremap,
    SYS_msgctl,
    SYS_msgget,
    SYS_msgrcv,
    SYS_msgsnd,
    SYS_msync,
    SYS_munlock,
    SYS_munlockall,
    SYS_munmap,
    SYS_name_to_handle_at,
    SYS_nanosleep,
    SYS_newfstatat,
    SYS_openat,
    SYS_openat2,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pipe2,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_pkey_mprotect,
    SYS_ppoll,
    SYS_prctl,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_prlimit64,
    SYS_process_mrelease,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pselect6,
    SYS_ptrace,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_read,
    SYS_readahead,
    SYS_readlinkat,
    SYS_readv,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_remap_file_pages,
    SYS_removexattr,
    SYS_renameat,
    SYS_renameat2,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigqueueinfo,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_rt_tgsigqueueinfo,
    SYS_sched_getaffinity,
    SYS_sched_getattr,
    SYS_sched_getparam,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_getscheduler,
    SYS_sched_rr_get_interval,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_yield,
    SYS_seccomp,
    SYS_semctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_sendfile,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgid,
    SYS_setgroups,
    SYS_setitimer,
    SYS_setpgid,
    SYS_setpriority,
    SYS_setregid,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setrlimit,
    SYS_set_robust_list,
    SYS_setsid,
    SYS_setsockopt,
    SYS_set_tid_address,
    SYS_setuid,
    SYS_setxattr,
    SYS_shmat,
    SYS_shmctl,
    SYS_shmdt,
    SYS_shmget,
    SYS_shutdown,
    SYS_sigaltstack,
    SYS_signalfd4,
    SYS_socketpair,
    SYS_splice,
    SYS_statfs,
    SYS_statx,
    SYS_symlinkat,
    SYS_sync,
    SYS_sync_file_range,
    SYS_syncfs,
    SYS_sysinfo,
    SYS_tee,
    SYS_tgkill,
    SYS_timer_create,
    SYS_timer_delete,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
    SYS_timer_getoverrun,
    SYS_timer_gettime,
    SYS_timer_settime,
    SYS_times,
    SYS_tkill,
    SYS_truncate,
    SYS_umask,
    SYS_uname,
    SYS_unlinkat,
    SYS_utimensat,
    SYS_vmsplice,
    SYS_wait4,
    SYS_waitid,
    SYS_write,
    SYS_writev,
];

/// Those that only old architectures have.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    SYS_access,
    SYS_alarm,
    SYS_arch_prctl,
    SYS_chmod,
    SYS_chown,
    SYS_creat,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_ctl_old,
    SYS_epoll_wait,
    SYS_epoll_wait_old,
    SYS_eventfd,
    SYS_fork,
    SYS_futimesat,
    SYS_getdents,
    SYS_getpgrp,
    SYS_get_thread_area,
    SYS_inotify_init,
    SYS_lchown,
    SYS_link,
    SYS_lstat,
    SYS_mkdir,
    SYS_mknod,
    SYS_modify_ldt,
    SYS_open,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_readlink,
    SYS_rename,
    SYS_rmdir,
    SYS_select,
    SYS_set_thread_area,
    SYS_signalfd,
    SYS_stat,
    SYS_symlink,
    SYS_time,
    SYS_unlink,
    SYS_utime,
    SYS_utimes,
    SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Allowed, too: calls that are newer than names for them in libc. Their numbers are the same everywhere: cachestat, fchmodat2,
/// map_shadow_stack, futex_wake, futex_wait, futex_requeue, mseal.
const NEW: &[c_long] = &[451, 452, 453, 454, 455, 456, 462];
/// What may come after these calls: a program that is told that they do not exist does without.
const UNKNOWN: std::ops::Range<i64> = 463..600;

#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: i64 = 333;
#[cfg(not(target_arch = "x86_64"))]
const IO_PGETEVENTS: i64 = 292;

/// The flags of `clone` that make namespaces.
const NAMESPACES: u64 = 0x7E02_0000;
/// What `personality` may be: Linux, with or without UNAME26, with or without ADDR_NO_RANDOMIZE's bits as Docker lists
/// them, or a question.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// What `fallocate` may do: make a hole, or take a part out.
const GIVING_BACK: [c_int; 2] = [FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE];
/// `fallocate` as an `ioctl` of any file (Linux, falloc.h): FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE.
const RESERVING: [u64; 3] = [0x4030_5828, 0x4030_582A, 0x4030_5839];

/// Forbids everything else to this thread and what it starts. From here on no program gains rights by being executed:
/// set-user-ID and file capabilities do nothing.
///
/// # Errors
/// The kernel has no such filters.
pub(super) fn confine(single: bool) -> Result<()> {
    let errno = |number: c_int| SeccompAction::Errno(number.cast_unsigned());
    // Of several filters that refuse, the one that came last says how.
    install(allowed()?, errno(EPERM), SeccompAction::Allow)?;
    install(reserving()?, SeccompAction::Allow, errno(EOPNOTSUPP))?;
    let missing = [SYS_clone3].into_iter().chain(UNKNOWN).map(|call| (call, Vec::new())).collect();
    install(missing, SeccompAction::Allow, errno(ENOSYS))?;
    if single {
        install(pretended()?, SeccompAction::Allow, errno(0))?;
    }
    Ok(())
}

fn install(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> Result<()> {
    let failed = || "cannot restrict what a container asks of the kernel".to_string();
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .or_fail(Class::Engine, || format!("there are no rules for containers on a {} machine", std::env::consts::ARCH))?;
    let filter = SeccompFilter::new(rules, otherwise, then, arch).or_fail(Class::Engine, failed)?;
    let program: seccompiler::BpfProgram = filter.try_into().or_fail(Class::Engine, failed)?;
    apply_filter(&program)
        .map_err(|error| Error::new(Class::Engine, failed()).because(error).hint("the kernel must be built with CONFIG_SECCOMP_FILTER"))
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .or_fail(Class::Engine, || "cannot make a rule for system calls".into())
}

fn allowed() -> Result<Rules> {
    let always = ALLOWED.iter().chain(OLD).chain(NEW).copied().chain([IO_PGETEVENTS]);
    let mut rules: Rules = always.map(|call| (call, Vec::new())).collect();
    rules.insert(SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?]);
    rules.insert(SYS_socket, vec![when(0, SeccompCmpOp::Ne, AF_VSOCK.cast_unsigned().into())?]);
    let personalities = PERSONALITIES.into_iter().map(|value| when(0, SeccompCmpOp::Eq, value));
    rules.insert(SYS_personality, personalities.collect::<Result<_>>()?);
    Ok(rules)
}

/// Calls that take any part of the disk at once. Whoever watches it would see that when it has happened; a program that is told
/// that this file system cannot do it, as many cannot, writes instead. What gives room back is let through.
fn reserving() -> Result<Rules> {
    let other_than = |mode: c_int| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, mode.cast_unsigned().into());
    let all = GIVING_BACK.into_iter().map(other_than).collect::<std::result::Result<Vec<_>, _>>().and_then(SeccompRule::new);
    let all = all.or_fail(Class::Engine, || "cannot make a rule for system calls".into())?;
    let requests = RESERVING.into_iter().map(|request| when(1, SeccompCmpOp::Eq, request));
    Ok(Rules::from([(SYS_fallocate, vec![all]), (SYS_ioctl, requests.collect::<Result<_>>()?)]))
}

/// Calls that do nothing and say that they did, where there is one user only: whoever unpacks packages may go on, as
/// with Charliecloud's `--force=seccomp`.
fn pretended() -> Result<Rules> {
    let mut rules = Rules::new();
    let calls = [
        SYS_fchown,
        SYS_fchownat,
        SYS_setuid,
        SYS_setgid,
        SYS_setreuid,
        SYS_setregid,
        SYS_setresuid,
        SYS_setresgid,
        SYS_setgroups,
        SYS_setfsuid,
        SYS_setfsgid,
    ];
    rules.extend(calls.map(|call| (call, Vec::new())));
    let devices = |argument| {
        let kind = |kind: mode_t| when(argument, SeccompCmpOp::MaskedEq(S_IFMT.into()), kind.into());
        Ok::<_, Error>(vec![kind(S_IFCHR)?, kind(S_IFBLK)?])
    };
    rules.insert(SYS_mknodat, devices(2)?);
    #[cfg(target_arch = "x86_64")]
    {
        rules.extend([SYS_chown, SYS_lchown].map(|call| (call, Vec::new())));
        rules.insert(SYS_mknod, devices(1)?);
    }
    Ok(rules)
}
