//! Files made of boxes: ISO base media (ISO/IEC 14496-12), of which MP4, HEIF, AVIF and 3GPP are
//! kinds, and QuickTime (Apple, "QuickTime File Format"), from which it came.

use super::bytes::{KnownBytes, Order, Stop};

/// Boxes with which a file may begin. `ftyp` comes as early as it can (ISO/IEC 14496-12, 4.3), which
/// free space and a preview of QuickTime may precede; older QuickTime files have none.
const FIRST_BOXES: [&[u8; 4]; 13] = [
    b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"PICT", b"pict",
    b"uuid", b"pdin", b"junk",
];

/// Boxes that are looked past for one that tells.
const MOST_BOXES: usize = 4096;

/// What a brand says (the MP4 registration authority's list of brands).
fn kind_of_brand(brand: &[u8; 4]) -> Option<&'static str> {
    Some(match brand {
        b"avif" | b"avis" => "image/avif",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => {
            "image/heic"
        }
        b"mif1" | b"mif2" | b"msf1" | b"miaf" | b"jpeg" | b"jpgs" | b"avci" | b"avcs" | b"vvic"
        | b"MiHB" | b"MiHE" | b"MiHA" => "image/heif",
        b"crx " => "image/x-canon-cr3",
        b"qt  " => "video/quicktime",
        b"M4V " | b"M4VH" | b"M4VP" => "video/x-m4v",
        b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " => "audio/mp4",
        [b'3', b'g', b'2', _] => "video/3gpp2",
        [b'3', b'g', _, _] => "video/3gpp",
        [b'i', b's', b'o', _] | [b'm', b'p', b'4', _] | [b'a', b'v', b'c', b'1'] => "video/mp4",
        _ => return None,
    })
}

/// A file by its first boxes, as far as `sample` goes. One whose brands are all unknown is taken for
/// MP4: every file of the family is read by the same programs.
pub(super) fn by_head(sample: &[u8]) -> Option<&'static str> {
    let mut rest = sample;
    loop {
        let size = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let kind = rest.get(4..)?.first_chunk::<4>()?;
        if !FIRST_BOXES.contains(&kind) || matches!(size, 2..8) {
            return None;
        }
        match kind {
            b"ftyp" | b"styp" => return Some(by_file_type(rest.get(8..size.min(rest.len()))?)),
            // The media itself, without a word about what it is: QuickTime before it had `ftyp`.
            b"moov" | b"mdat" => return Some("video/quicktime"),
            _ => {}
        }
        match rest.get(size..) {
            Some(next) if size >= 8 && next.len() >= 8 => rest = next,
            // What follows is beyond the sample, or the file ends here: only QuickTime begins so.
            _ => return Some("video/quicktime"),
        }
    }
}

/// `ftyp`: the major brand, a version, and the brands that it is compatible with.
fn by_file_type(content: &[u8]) -> &'static str {
    let (brands, _) = content.as_chunks::<4>();
    let Some((major, rest)) = brands.split_first() else {
        return "video/mp4";
    };
    let compatible = || rest.iter().skip(1).filter_map(kind_of_brand);
    match kind_of_brand(major) {
        // Of a picture the general brand may come first, and which coding it is next.
        Some("image/heif") => compatible()
            .find(|kind| matches!(*kind, "image/avif" | "image/heic"))
            .unwrap_or("image/heif"),
        Some(kind) => kind,
        None => compatible().next().unwrap_or("video/mp4"),
    }
}

/// A box: its type, and where its content begins and ends.
#[derive(Clone, Copy)]
struct BoxAt {
    kind: [u8; 4],
    start: u64,
    end: u64,
}

/// The largest size of the pictures in a HEIF or AVIF file, in pixels (ISO/IEC 23008-12): `ispe` of the
/// item properties in `meta`/`iprp`/`ipco`, or of a sequence the tracks' in `moov`/`trak`/`tkhd`.
/// They may stand before the coded pictures or behind.
pub(super) fn pixels(bytes: &KnownBytes) -> Result<u64, Stop> {
    let mut pixels = None;
    let mut at = 0;
    for _ in 0..MOST_BOXES {
        if at >= bytes.size() || pixels.is_some() {
            break;
        }
        let one = box_at(bytes, at, bytes.size())?;
        match &one.kind {
            // It has a version and flags before its boxes.
            b"meta" => pixels = of_properties(bytes, one.start.saturating_add(4), one.end)?,
            b"moov" => pixels = of_tracks(bytes, one)?,
            _ => {}
        }
        at = one.end;
    }
    pixels.ok_or(Stop::Malformed)
}

fn of_properties(bytes: &KnownBytes, start: u64, end: u64) -> Result<Option<u64>, Stop> {
    let Some(properties) = child(bytes, start, end, *b"iprp")? else {
        return Ok(None);
    };
    let Some(container) = child(bytes, properties.start, properties.end, *b"ipco")? else {
        return Ok(None);
    };
    largest(bytes, container, *b"ispe", |bytes, ispe| {
        // It has a version and flags before its numbers.
        let width = bytes.u32(ispe.start + 4, Order::Big)?;
        let height = bytes.u32(ispe.start + 8, Order::Big)?;
        Ok(Some(u64::from(width) * u64::from(height)))
    })
}

fn of_tracks(bytes: &KnownBytes, moov: BoxAt) -> Result<Option<u64>, Stop> {
    largest(bytes, moov, *b"trak", |bytes, track| {
        let Some(header) = child(bytes, track.start, track.end, *b"tkhd")? else {
            return Ok(None);
        };
        // ISO/IEC 14496-12, 8.3.2: the times are longer in version 1. Width and height are 16.16.
        let is_long = bytes.array::<1>(header.start)? == [1];
        let at = header.start + if is_long { 88 } else { 76 };
        let width = bytes.u16(at, Order::Big)?;
        let height = bytes.u16(at + 4, Order::Big)?;
        Ok((width > 0).then_some(u64::from(width) * u64::from(height)))
    })
}

/// The largest of what the boxes of one kind within another say.
fn largest(
    bytes: &KnownBytes,
    parent: BoxAt,
    kind: [u8; 4],
    of: impl Fn(&KnownBytes, BoxAt) -> Result<Option<u64>, Stop>,
) -> Result<Option<u64>, Stop> {
    let mut largest = None;
    let mut at = parent.start;
    for _ in 0..MOST_BOXES {
        if at >= parent.end {
            break;
        }
        let one = box_at(bytes, at, parent.end)?;
        if one.kind == kind {
            largest = largest.max(of(bytes, one)?);
        }
        at = one.end;
    }
    Ok(largest)
}

fn child(bytes: &KnownBytes, start: u64, end: u64, kind: [u8; 4]) -> Result<Option<BoxAt>, Stop> {
    let mut at = start;
    for _ in 0..MOST_BOXES {
        if at >= end {
            break;
        }
        let one = box_at(bytes, at, end)?;
        if one.kind == kind {
            return Ok(Some(one));
        }
        at = one.end;
    }
    Ok(None)
}

/// ISO/IEC 14496-12, 4.2: a size of 1 stands for one of 64 bits behind the type, of 0 for the rest of
/// the file. A box never goes beyond `limit`.
fn box_at(bytes: &KnownBytes, at: u64, limit: u64) -> Result<BoxAt, Stop> {
    let size = bytes.u32(at, Order::Big)?;
    let kind = bytes.array(at + 4)?;
    let (header, size) = match size {
        0 => (8, limit - at),
        1 => (16, bytes.u64(at + 8, Order::Big)?),
        size => (8, u64::from(size)),
    };
    if size < header {
        return Err(Stop::Malformed);
    }
    Ok(BoxAt {
        kind,
        start: at + header,
        end: at.saturating_add(size).min(limit),
    })
}
