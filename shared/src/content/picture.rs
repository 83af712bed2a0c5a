//! How large a picture says it is. A picture of few bytes can unfold to more pixels than whoever
//! shows it has memory for, so their number is bounded, by the header alone and without decoding.
//!
//! Of a file with several pictures the header's own size counts (GIF, WebP), the largest (HEIF,
//! AVIF), or the first (TIFF).

use super::{
    bytes::{KnownBytes, LONG_STEP_BYTES, Order, Piece, Stop},
    iso_media,
};

/// The pixels of a picture of this kind; `None` for what is no picture whose size is bounded.
pub(super) fn pixels(kind: &str, bytes: &KnownBytes, resume: u64) -> Option<Result<u64, Stop>> {
    Some(match kind {
        "image/png" => png(bytes),
        "image/gif" => gif(bytes),
        "image/bmp" => bmp(bytes),
        "image/webp" => webp(bytes),
        "image/jpeg" => jpeg(bytes, resume),
        "image/avif" | "image/heic" | "image/heif" => iso_media::pixels(bytes),
        "image/tiff" => tiff(bytes),
        _ => return None,
    })
}

/// Whether only the end of what is known of a picture of this kind has to be kept.
pub(super) fn is_read_in_order(kind: &str) -> bool {
    kind == "image/jpeg"
}

fn area(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Portable Network Graphics, 11.2.2: IHDR is the first chunk, but for Apple's CgBI before it.
fn png(bytes: &KnownBytes) -> Result<u64, Stop> {
    let mut at = 8;
    if bytes.array(at + 4)? == *b"CgBI" {
        at += 12 + u64::from(bytes.u32(at, Order::Big)?);
    }
    if bytes.array(at + 4)? != *b"IHDR" {
        return Err(Stop::Malformed);
    }
    Ok(area(
        bytes.u32(at + 8, Order::Big)?,
        bytes.u32(at + 12, Order::Big)?,
    ))
}

/// GIF89a, 18: the logical screen.
fn gif(bytes: &KnownBytes) -> Result<u64, Stop> {
    Ok(area(
        bytes.u16(6, Order::Little)?,
        bytes.u16(8, Order::Little)?,
    ))
}

/// BITMAPCOREHEADER and BITMAPINFOHEADER. A negative height is a picture from top to bottom.
fn bmp(bytes: &KnownBytes) -> Result<u64, Stop> {
    if bytes.u32(14, Order::Little)? == 12 {
        return Ok(area(
            bytes.u16(18, Order::Little)?,
            bytes.u16(20, Order::Little)?,
        ));
    }
    let side = |at| {
        let side = bytes.u32(at, Order::Little)?;
        Ok(side.cast_signed().unsigned_abs())
    };
    Ok(area(side(18)?, side(22)?))
}

/// RFC 9649: lossy (2.5), lossless (2.6), extended (2.7).
fn webp(bytes: &KnownBytes) -> Result<u64, Stop> {
    match &bytes.array(12)? {
        b"VP8 " => {
            let side = |at| Ok(bytes.u16(at, Order::Little)? & 0x3FFF);
            Ok(area(side(26)?, side(28)?))
        }
        b"VP8L" => {
            let bits = bytes.u32(21, Order::Little)?;
            Ok(area((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8X" => Ok(area(bytes.u24(24)? + 1, bytes.u24(27)? + 1)),
        _ => Err(Stop::Malformed),
    }
}

/// ITU-T T.81, B.2: segments until the first frame header (SOF). Profiles and previews of any size
/// stand before it, cut into segments of at most 64 KiB. `resume` is the start of a segment that was
/// reached before.
fn jpeg(bytes: &KnownBytes, resume: u64) -> Result<u64, Stop> {
    /// The most bytes that belong to no segment.
    const MOST_STRAY_BYTES: u32 = 64 * 1024;
    let (mut at, mut stray) = (resume.max(2), 0);
    while stray < MOST_STRAY_BYTES {
        let marker = array_far(bytes, at)?;
        match marker {
            // Any number of 0xFF may stand before a marker.
            [0xFF, 0xFF] => {
                at += 1;
                stray += 1;
            }
            // Markers alone: TEM, restarts, another start. Where there is none, readers look for one.
            [0xFF, 0x00 | 0x01 | 0xD0..=0xD8] => {
                at += 2;
                stray += 2;
            }
            // Huffman tables, an extension and arithmetic coding have markers among those of frames.
            [0xFF, 0xC0..=0xCF] if !matches!(marker[1], 0xC4 | 0xC8 | 0xCC) => {
                let [_, _, _, _, _, y1, y0, x1, x0] = array_far(bytes, at)?;
                let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                return Ok(area(side(x1, x0), side(y1, y0)));
            }
            // The scan begins without a frame header, or the picture ends.
            [0xFF, 0xDA | 0xD9] => return Err(Stop::Malformed),
            [0xFF, _] => {
                let [_, _, high, low] = array_far(bytes, at)?;
                at += 2 + u64::from(u16::from_be_bytes([high, low]));
            }
            _ => {
                at += 1;
                stray += 1;
            }
        }
    }
    Err(Stop::Malformed)
}

/// As [`KnownBytes::array`], with more asked for at once when it is not known.
fn array_far<const N: usize>(bytes: &KnownBytes, at: u64) -> Result<[u8; N], Stop> {
    bytes.array(at).map_err(|stop| match stop {
        Stop::Need(Piece { offset, .. }) => Stop::Need(Piece {
            offset,
            length: LONG_STEP_BYTES,
        }),
        other => other,
    })
}

/// TIFF 6.0, section 2: the header points to the first directory, which may stand anywhere. BigTIFF
/// counts in 64 bits.
fn tiff(bytes: &KnownBytes) -> Result<u64, Stop> {
    const WIDTH: u32 = 256;
    const HEIGHT: u32 = 257;
    const SHORT: u32 = 3;
    const LONG8: u32 = 16;
    let order = match &bytes.array(0)? {
        b"MM" => Order::Big,
        _ => Order::Little,
    };
    let is_big = bytes.u16(2, order)? == 43;
    let (start, count_bytes, entry_bytes) = if is_big {
        (bytes.u64(8, order)?, 8, 20)
    } else {
        (bytes.u32(4, order)?.into(), 2, 12)
    };
    let entries = if is_big {
        bytes.u64(start, order)?.min(u16::MAX.into())
    } else {
        bytes.u16(start, order)?.into()
    };
    let (mut width, mut height) = (None, None);
    let first = start.saturating_add(count_bytes);
    for index in 0..entries {
        let entry = first.saturating_add(index * entry_bytes);
        let tag = bytes.u16(entry, order)?;
        let side = match tag {
            WIDTH => &mut width,
            HEIGHT => &mut height,
            _ => continue,
        };
        let value = entry + if is_big { 12 } else { 8 };
        let told = match bytes.u16(entry + 2, order)? {
            SHORT => bytes.u16(value, order)?.into(),
            LONG8 if is_big => bytes.u64(value, order)?,
            _ => bytes.u32(value, order)?.into(),
        };
        *side = side.or(Some(told));
        if let (Some(width), Some(height)) = (width, height) {
            return Ok(u64::saturating_mul(width, height));
        }
    }
    Err(Stop::Malformed)
}
