//! Large pieces past the page cache (`O_DIRECT`).
//!
//! The kernel copies what goes through its page cache, into pages that it has to find first: at hundreds of MB/s that
//! costs more than all else that the journal does, and pushes out what others keep there. Small pieces stay in the
//! cache, where readers find them; it and the medium never differ, whichever way a file was written.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSliceMut},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    sync::OnceLock,
};

use rustix::{fs::OFlags, io::Errno};

/// What every medium takes: place, length and address in memory are multiples of it.
const BLOCK_BYTES: usize = 4096;
/// Below this the copy is cheaper than a medium that is waited for twice.
const LEAST_WRITTEN: usize = 64 * 1024;
/// Below this the kernel, which reads ahead and may have it in its cache, is the better reader. Larger pieces are not
/// looked for there: a read with `RWF_NOWAIT` starts to read ahead itself, into the cache.
const LEAST_READ: usize = 256 * 1024;

/// Empties the memory and makes room for so many bytes; tells where they are to begin. What is large enough to go past
/// the page cache begins at a multiple of a block; smaller ones keep no memory for that. Whoever adds more than was
/// said may lose the place, which costs speed and nothing else.
pub(in crate::journal) fn aligned(memory: &mut Vec<u8>, length: usize) -> usize {
    if length < LEAST_WRITTEN.min(LEAST_READ) {
        memory.clear();
        memory.reserve(length);
        return 0;
    }
    on_a_block(memory, length)
}

fn on_a_block(memory: &mut Vec<u8>, length: usize) -> usize {
    memory.clear();
    memory.reserve(length.saturating_add(BLOCK_BYTES));
    let origin = memory.as_ptr().addr().wrapping_neg() % BLOCK_BYTES;
    memory.resize(origin, 0);
    origin
}

/// The same file once more, past the page cache; opened when it is first needed.
#[derive(Debug)]
pub(super) struct Direct {
    is_wanted: bool,
    file: OnceLock<Option<File>>,
}

impl Direct {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, file: OnceLock::new() }
    }

    /// Writes all of it; false if that is not possible here.
    pub(super) fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<bool> {
        let is_whole = bytes.len().is_multiple_of(BLOCK_BYTES);
        if bytes.len() < LEAST_WRITTEN || !is_whole || !is_aligned(bytes, at) {
            return Ok(false);
        }
        let Some(direct) = self.of(file) else { return Ok(false) };
        match direct.write_all_at(bytes, at) {
            Err(error) if is_refusal(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Reads what is there of it; how much that was.
    pub(super) fn read(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if buffer.len() < LEAST_READ || !is_aligned(buffer, at) {
            return Ok(0);
        }
        let Some(direct) = self.of(file) else { return Ok(0) };
        let mut known = 0;
        let (whole, end) = buffer.split_at_mut(buffer.len() / BLOCK_BYTES * BLOCK_BYTES);
        // For the part of a block that the buffer ends with. Not on the stack: rustc 1.95 loses the prologue of a function
        // that returns early and has something there that is aligned like a page (TRACK-RECORD.md).
        let mut memory = Vec::new();
        let origin = on_a_block(&mut memory, BLOCK_BYTES);
        memory.resize(origin + BLOCK_BYTES, 0);
        let last = memory.get_mut(origin..).unwrap_or_default();
        while known < whole.len() {
            let rest = whole.get_mut(known..).unwrap_or_default();
            let wanted = rest.len();
            let mut parts = [IoSliceMut::new(rest), IoSliceMut::new(last)];
            match rustix::io::preadv(direct, &mut parts, at + known as u64) {
                Ok(count) if count >= wanted => {
                    let there = last.iter().take(count - wanted);
                    end.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
                    return Ok(whole.len() + end.len().min(count - wanted));
                }
                // Whoever reads on notices the end, too.
                Ok(count) if count < BLOCK_BYTES => break,
                Ok(count) => known += count / BLOCK_BYTES * BLOCK_BYTES,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(known)
    }

    /// By the open file and not by its name, which may be another file's by now.
    fn of(&self, file: &File) -> Option<&File> {
        let open = || {
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(again).ok()
        };
        if !self.is_wanted {
            return None;
        }
        self.file.get_or_init(open).as_ref()
    }
}

fn is_aligned(bytes: &[u8], at: u64) -> bool {
    bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES) && at.is_multiple_of(BLOCK_BYTES as u64)
}

/// The file system or its medium has no such way, or wants larger blocks.
fn is_refusal(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::INVAL, Errno::OPNOTSUPP].iter().any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_past_the_page_cache_takes_memory_to_be_aligned() {
        let mut memory = Vec::new();
        assert_eq!(aligned(&mut memory, 100), 0);
        assert!(memory.capacity() < 1024, "{}", memory.capacity());
        let mut memory = Vec::new();
        let origin = aligned(&mut memory, LEAST_WRITTEN);
        memory.resize(origin + LEAST_WRITTEN, 1);
        assert!(is_aligned(&memory[origin..], 0));
    }
}
