//! How large a picture says it is. A picture of few bytes can unfold to more pixels than whoever
//! shows it has memory for, so their number is bounded, by the header alone and without decoding.
//!
//! Of a file with several pictures the header's own size counts (GIF, WebP), the largest (HEIF,
//! AVIF), or the first (TIFF).

use crate::MediaType;

/// How many first bytes of a picture are looked at: enough to pass the EXIF data and colour profiles
/// that stand before the size of a JPEG.
pub const HEAD_BYTES: usize = 256 * 1024;

/// How many bytes are looked at where [`Look::Further`] points.
pub const DIRECTORY_BYTES: usize = 16 * 1024;

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// This is no kind of picture.
    NoPicture,
    /// It has so many pixels.
    Pixels(u64),
    /// The size stands at this place of the file, for [`pixels_at`].
    Further(u64),
    /// It is a kind of picture, and its size cannot be found.
    Unreadable,
}

/// Looks at the first [`HEAD_BYTES`] of a file, or all of a shorter one.
#[must_use]
pub fn look(media_type: MediaType, head: &[u8]) -> Look {
    let size = match media_type.as_str() {
        "image/png" => png(head),
        "image/gif" => gif(head),
        "image/bmp" => bmp(head),
        "image/webp" => webp(head),
        "image/jpeg" => jpeg(head),
        "image/avif" | "image/heic" | "image/heif" => {
            return heif(head).map_or(Look::Unreadable, Look::Pixels);
        }
        "image/tiff" => return tiff(head),
        _ => return Look::NoPicture,
    };
    size.map_or(Look::Unreadable, Look::Pixels)
}

/// The pixels of a TIFF, from the directory to which [`Look::Further`] pointed: at most
/// [`DIRECTORY_BYTES`] from there. `head` is what the file begins with.
#[must_use]
pub fn pixels_at(head: &[u8], directory: &[u8]) -> Option<u64> {
    tiff_directory(tiff_order(head)?, directory)
}

/// The order of a number's bytes.
#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

fn u16_at(bytes: &[u8], at: usize, order: Order) -> Option<u32> {
    let bytes = *bytes.get(at..)?.first_chunk::<2>()?;
    Some(u32::from(match order {
        Order::Big => u16::from_be_bytes(bytes),
        Order::Little => u16::from_le_bytes(bytes),
    }))
}

fn u32_at(bytes: &[u8], at: usize, order: Order) -> Option<u32> {
    let bytes = *bytes.get(at..)?.first_chunk::<4>()?;
    Some(match order {
        Order::Big => u32::from_be_bytes(bytes),
        Order::Little => u32::from_le_bytes(bytes),
    })
}

fn u24_at(bytes: &[u8], at: usize) -> Option<u32> {
    let [low, middle, high] = *bytes.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_le_bytes([low, middle, high, 0]))
}

fn area(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Portable Network Graphics, 11.2.2: the first chunk is IHDR.
fn png(head: &[u8]) -> Option<u64> {
    (head.get(12..16)? == b"IHDR").then_some(())?;
    Some(area(
        u32_at(head, 16, Order::Big)?,
        u32_at(head, 20, Order::Big)?,
    ))
}

/// GIF89a, 18: the logical screen.
fn gif(head: &[u8]) -> Option<u64> {
    Some(area(
        u16_at(head, 6, Order::Little)?,
        u16_at(head, 8, Order::Little)?,
    ))
}

/// BITMAPCOREHEADER and BITMAPINFOHEADER. A negative height is a picture from top to bottom.
fn bmp(head: &[u8]) -> Option<u64> {
    if u32_at(head, 14, Order::Little)? == 12 {
        return Some(area(
            u16_at(head, 18, Order::Little)?,
            u16_at(head, 20, Order::Little)?,
        ));
    }
    let side = |at| {
        Some(
            u32_at(head, at, Order::Little)?
                .cast_signed()
                .unsigned_abs(),
        )
    };
    Some(area(side(18)?, side(22)?))
}

/// RFC 9649: lossy (2.5), lossless (2.6), extended (2.7).
fn webp(head: &[u8]) -> Option<u64> {
    match head.get(12..16)? {
        b"VP8 " => {
            let side = |at| Some(u16_at(head, at, Order::Little)? & 0x3FFF);
            Some(area(side(26)?, side(28)?))
        }
        b"VP8L" => {
            let bits = u32_at(head, 21, Order::Little)?;
            Some(area((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8X" => Some(area(u24_at(head, 24)? + 1, u24_at(head, 27)? + 1)),
        _ => None,
    }
}

/// ITU-T T.81, B.2: segments until the first frame header (SOF).
fn jpeg(head: &[u8]) -> Option<u64> {
    let mut at = 2;
    loop {
        (*head.get(at)? == 0xFF).then_some(())?;
        match *head.get(at + 1)? {
            // Any number of 0xFF may stand before a marker.
            0xFF => at += 1,
            // Huffman tables, an extension, arithmetic coding.
            0xC0..=0xCF if !matches!(head.get(at + 1)?, 0xC4 | 0xC8 | 0xCC) => {
                return Some(area(
                    u16_at(head, at + 7, Order::Big)?,
                    u16_at(head, at + 5, Order::Big)?,
                ));
            }
            // The scan begins without a frame header, or the picture ends.
            0xDA | 0xD9 => return None,
            _ => at += 2 + u16_at(head, at + 2, Order::Big)? as usize,
        }
    }
}

/// ISO/IEC 23008-12: the largest `ispe` of the file's item properties, in `meta`/`iprp`/`ipco`.
fn heif(head: &[u8]) -> Option<u64> {
    // `meta` has a version and flags before its boxes, `ispe` before its numbers.
    let meta = boxes(head).find(|(kind, _)| kind == b"meta")?.1.get(4..)?;
    let properties = boxes(meta).find(|(kind, _)| kind == b"iprp")?.1;
    let containers = boxes(properties).find(|(kind, _)| kind == b"ipco")?.1;
    boxes(containers)
        .filter(|(kind, _)| kind == b"ispe")
        .filter_map(|(_, ispe)| {
            Some(area(
                u32_at(ispe, 4, Order::Big)?,
                u32_at(ispe, 8, Order::Big)?,
            ))
        })
        .max()
}

/// The boxes of ISO/IEC 14496-12, 4.2, with their contents as far as `bytes` goes.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let size = u32_at(rest, 0, Order::Big)? as usize;
        let kind = *rest.get(4..)?.first_chunk::<4>()?;
        // Without a size it goes to the end; with one of 64 bits, far beyond what is looked at.
        let end = if size < 8 {
            rest.len()
        } else {
            size.min(rest.len())
        };
        let content = rest.get(8..end)?;
        rest = rest.get(end..)?;
        Some((kind, content))
    })
}

/// TIFF 6.0, section 2: the header points to the first directory, which may stand anywhere.
fn tiff(head: &[u8]) -> Look {
    let Some(order) = tiff_order(head) else {
        return Look::Unreadable;
    };
    let Some(at) = u32_at(head, 4, order) else {
        return Look::Unreadable;
    };
    match head.get(at as usize..) {
        Some(directory) if directory.len() >= DIRECTORY_BYTES || head.len() < HEAD_BYTES => {
            tiff_directory(order, directory).map_or(Look::Unreadable, Look::Pixels)
        }
        _ => Look::Further(at.into()),
    }
}

fn tiff_order(head: &[u8]) -> Option<Order> {
    match head.get(..4)? {
        b"II*\0" => Some(Order::Little),
        b"MM\0*" => Some(Order::Big),
        _ => None,
    }
}

fn tiff_directory(order: Order, directory: &[u8]) -> Option<u64> {
    const WIDTH: u32 = 256;
    const HEIGHT: u32 = 257;
    const SHORT: u32 = 3;
    let entries = u16_at(directory, 0, order)? as usize;
    let side = |tag| {
        let entry = (0..entries)
            .map(|index| 2 + 12 * index)
            .find(|at| u16_at(directory, *at, order) == Some(tag))?;
        if u16_at(directory, entry + 2, order)? == SHORT {
            u16_at(directory, entry + 8, order)
        } else {
            u32_at(directory, entry + 8, order)
        }
    };
    Some(area(side(WIDTH)?, side(HEIGHT)?))
}
