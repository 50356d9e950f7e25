;; What is done for each of many small entries in one call: sums and stamps where they are sealed,
;; all that a good entry must be where they are received. Offsets are those of an entry's header
;; (shared/log/entry.ts); test/shared/kernel holds them against it.
;;
;; `npm run kernel` compiles this file into compiled.ts.
;;
;; Memory: 16 tables of CRC32C (16 KiB), four words of results, tables that move a sum over 1, 2,
;; 4 ... 2 ** 14 bytes (4 KiB each), then entries, without a gap.

(module
  (memory (export "memory") 2)

  ;; Results of a call besides where it has stopped: entries done, the last of them, its epoch, the
  ;; CRC of them all behind what it was given.
  (global $done i32 (i32.const 16384))
  (global $last i32 (i32.const 16388))
  (global $epoch i32 (i32.const 16392))
  (global $crc i32 (i32.const 16396))

  ;; The running value $c, moved over the bytes from $at to $end; slicing by sixteen. What depends
  ;; on $c comes last, for the processor to have the rest by then.
  (func $sum (param $c i32) (param $at i32) (param $end i32) (result i32)
    (local $w0 i32) (local $w1 i32) (local $w2 i32) (local $w3 i32)
    (block $ended
      (loop $next
        (br_if $ended (i32.lt_u (i32.sub (local.get $end) (local.get $at)) (i32.const 16)))
        (local.set $w3 (i32.load offset=12 align=1 (local.get $at)))
        (local.set $w2 (i32.load offset=8 align=1 (local.get $at)))
        (local.set $w1 (i32.load offset=4 align=1 (local.get $at)))
        (local.set $w0 (i32.xor (local.get $c) (i32.load align=1 (local.get $at))))
        (i32.load offset=3072 (i32.and (i32.shl (local.get $w3) (i32.const 2)) (i32.const 1020)))
        (i32.load offset=2048 (i32.and (i32.shr_u (local.get $w3) (i32.const 6)) (i32.const 1020)))
        (i32.load offset=1024 (i32.and (i32.shr_u (local.get $w3) (i32.const 14)) (i32.const 1020)))
        (i32.load offset=0 (i32.and (i32.shr_u (local.get $w3) (i32.const 22)) (i32.const 1020)))
        i32.xor
        i32.xor
        i32.xor
        (i32.load offset=7168 (i32.and (i32.shl (local.get $w2) (i32.const 2)) (i32.const 1020)))
        (i32.load offset=6144 (i32.and (i32.shr_u (local.get $w2) (i32.const 6)) (i32.const 1020)))
        (i32.load offset=5120 (i32.and (i32.shr_u (local.get $w2) (i32.const 14)) (i32.const 1020)))
        (i32.load offset=4096 (i32.and (i32.shr_u (local.get $w2) (i32.const 22)) (i32.const 1020)))
        i32.xor
        i32.xor
        i32.xor
        i32.xor
        (i32.load offset=11264 (i32.and (i32.shl (local.get $w1) (i32.const 2)) (i32.const 1020)))
        (i32.load offset=10240 (i32.and (i32.shr_u (local.get $w1) (i32.const 6)) (i32.const 1020)))
        (i32.load offset=9216 (i32.and (i32.shr_u (local.get $w1) (i32.const 14)) (i32.const 1020)))
        (i32.load offset=8192 (i32.and (i32.shr_u (local.get $w1) (i32.const 22)) (i32.const 1020)))
        i32.xor
        i32.xor
        i32.xor
        i32.xor
        (i32.load offset=15360 (i32.and (i32.shl (local.get $w0) (i32.const 2)) (i32.const 1020)))
        (i32.load offset=14336 (i32.and (i32.shr_u (local.get $w0) (i32.const 6)) (i32.const 1020)))
        (i32.load offset=13312 (i32.and (i32.shr_u (local.get $w0) (i32.const 14)) (i32.const 1020)))
        (i32.load offset=12288 (i32.and (i32.shr_u (local.get $w0) (i32.const 22)) (i32.const 1020)))
        i32.xor
        i32.xor
        i32.xor
        i32.xor
        (local.set $c)
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next)))
    (block $ended
      (loop $next
        (br_if $ended (i32.lt_u (i32.sub (local.get $end) (local.get $at)) (i32.const 4)))
        (local.set $w0 (i32.xor (local.get $c) (i32.load align=1 (local.get $at))))
        (i32.load offset=3072 (i32.and (i32.shl (local.get $w0) (i32.const 2)) (i32.const 1020)))
        (i32.load offset=2048 (i32.and (i32.shr_u (local.get $w0) (i32.const 6)) (i32.const 1020)))
        (i32.load offset=1024 (i32.and (i32.shr_u (local.get $w0) (i32.const 14)) (i32.const 1020)))
        (i32.load offset=0 (i32.and (i32.shr_u (local.get $w0) (i32.const 22)) (i32.const 1020)))
        i32.xor
        i32.xor
        i32.xor
        (local.set $c)
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br $next)))
    (block $ended
      (loop $next
        (br_if $ended (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $w0 (i32.xor (local.get $c) (i32.load8_u (local.get $at))))
        (local.set $c
          (i32.xor
            (i32.shr_u (local.get $c) (i32.const 8))
            (i32.load offset=0 (i32.and (i32.shl (local.get $w0) (i32.const 2)) (i32.const 1020)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (local.get $c))

  (func $payload_crc (param $at i32) (param $end i32) (result i32)
    (i32.xor
      (call $sum (i32.const -1) (i32.add (local.get $at) (i32.const 64)) (local.get $end))
      (i32.const -1)))

  ;; The running value of header_crc behind the 32 bytes before it, and behind the 20 after it.
  (func $head (param $at i32) (result i32)
    (call $sum (i32.const -1) (local.get $at) (i32.add (local.get $at) (i32.const 32))))
  (func $tail (param $head i32) (param $at i32) (result i32)
    (call $sum (local.get $head)
      (i32.add (local.get $at) (i32.const 36))
      (i32.add (local.get $at) (i32.const 56))))

  ;; $crc with all bytes of the sealed entry behind it: sums are linear, so each part of the entry
  ;; is moved from where it was summed, or stands, over the bytes behind it, 28, 32 and so on for
  ;; those of the header. $head and $tail are of its header_crc.
  (func $joined
    (param $crc i32) (param $at i32) (param $next i32) (param $head i32) (param $tail i32)
    (result i32)
    (local $left i32) (local $by i32)
    ;; First what does not depend on $crc. Place over 4 bytes, tail and back over 8.
    (local.set $left (i32.load offset=60 align=1 (local.get $at)))
    (i32.load offset=3072 (i32.and (i32.shl (local.get $left) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=2048 (i32.and (i32.shr_u (local.get $left) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=1024 (i32.and (i32.shr_u (local.get $left) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=0 (i32.and (i32.shr_u (local.get $left) (i32.const 22)) (i32.const 1020)))
    (local.set $tail (i32.xor (local.get $tail) (i32.load offset=56 align=1 (local.get $at))))
    (i32.load offset=7168 (i32.and (i32.shl (local.get $tail) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=6144 (i32.and (i32.shr_u (local.get $tail) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=5120 (i32.and (i32.shr_u (local.get $tail) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=4096 (i32.and (i32.shr_u (local.get $tail) (i32.const 22)) (i32.const 1020)))
    ;; Over 16 bytes twice: head and header_crc; over 12 and 16: head.
    (local.set $left (i32.xor (local.get $head) (i32.load offset=32 align=1 (local.get $at))))
    (i32.load offset=15360 (i32.and (i32.shl (local.get $left) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=14336 (i32.and (i32.shr_u (local.get $left) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=13312 (i32.and (i32.shr_u (local.get $left) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=12288 (i32.and (i32.shr_u (local.get $left) (i32.const 22)) (i32.const 1020)))
    (i32.load offset=11264 (i32.and (i32.shl (local.get $head) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=10240 (i32.and (i32.shr_u (local.get $head) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=9216 (i32.and (i32.shr_u (local.get $head) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=8192 (i32.and (i32.shr_u (local.get $head) (i32.const 22)) (i32.const 1020)))
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    (local.set $left)
    (i32.load offset=15360 (i32.and (i32.shl (local.get $left) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=14336 (i32.and (i32.shr_u (local.get $left) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=13312 (i32.and (i32.shr_u (local.get $left) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=12288 (i32.and (i32.shr_u (local.get $left) (i32.const 22)) (i32.const 1020)))
    ;; $crc over 64 bytes.
    (i32.load offset=44096 (i32.and (i32.shl (local.get $crc) (i32.const 2)) (i32.const 1020)))
    (i32.load offset=43072 (i32.and (i32.shr_u (local.get $crc) (i32.const 6)) (i32.const 1020)))
    (i32.load offset=42048 (i32.and (i32.shr_u (local.get $crc) (i32.const 14)) (i32.const 1020)))
    (i32.load offset=41024 (i32.and (i32.shr_u (local.get $crc) (i32.const 22)) (i32.const 1020)))
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    i32.xor
    (local.set $crc (i32.xor (i32.const -1)))
    (local.set $left (i32.sub (i32.sub (local.get $next) (local.get $at)) (i32.const 64)))
    (block $ended
      (loop $power
        (br_if $ended (i32.eqz (local.get $left)))
        (local.set $by (i32.shl (i32.ctz (local.get $left)) (i32.const 12)))
        (i32.load offset=19520 (i32.add (local.get $by) (i32.and (i32.shl (local.get $crc) (i32.const 2)) (i32.const 1020))))
        (i32.load offset=18496 (i32.add (local.get $by) (i32.and (i32.shr_u (local.get $crc) (i32.const 6)) (i32.const 1020))))
        (i32.load offset=17472 (i32.add (local.get $by) (i32.and (i32.shr_u (local.get $crc) (i32.const 14)) (i32.const 1020))))
        (i32.load offset=16448 (i32.add (local.get $by) (i32.and (i32.shr_u (local.get $crc) (i32.const 22)) (i32.const 1020))))
        i32.xor
        i32.xor
        i32.xor
        (local.set $crc)
        (local.set $left
          (i32.and (local.get $left) (i32.sub (local.get $left) (i32.const 1))))
        (br $power)))
    (i32.xor (local.get $crc) (i32.load offset=28 align=1 (local.get $at))))

  ;; MurmurHash3's 32-bit finaliser.
  (func $mix (param $x i32) (result i32)
    (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 16))))
    (local.set $x (i32.mul (local.get $x) (i32.const 0x85ebca6b)))
    (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 13))))
    (local.set $x (i32.mul (local.get $x) (i32.const 0xc2b2ae35)))
    (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 16))))

  ;; Where the entry at $at ends; 0: not all of it stands before $end.
  (func $end_of (param $at i32) (param $end i32) (result i32)
    (local $size i32) (local $room i32)
    (local.set $room (i32.sub (local.get $end) (local.get $at)))
    (if (i32.lt_s (local.get $room) (i32.const 64)) (then (return (i32.const 0))))
    (local.set $size (i32.load offset=24 align=1 (local.get $at)))
    (if (i32.gt_u (local.get $size) (i32.sub (local.get $room) (i32.const 64)))
      (then (return (i32.const 0))))
    (i32.add (i32.add (local.get $at) (i32.const 64)) (local.get $size)))

  ;; Completes the headers of staged entries: payload_crc, space id, header_crc, back, place. Ends
  ;; behind $most entries, at the first that is not all there, and where $stop is reached. $all goes
  ;; on over them where $sums says so. Where $keeps says so each has its space id already.
  (func (export "seal")
    (param $at i32) (param $end i32) (param $stop i32) (param $most i32)
    (param $id0 i32) (param $id1 i32) (param $id2 i32) (param $id3 i32)
    (param $salt i32) (param $low i32) (param $high i32) (param $back i32)
    (param $all i32) (param $sums i32) (param $keeps i32)
    (result i32)
    (local $n i32) (local $next i32) (local $crc i32) (local $bytes i32)
    (local $head i32) (local $tail i32)
    (block $ended
      (loop $entry
        (br_if $ended (i32.ge_u (local.get $n) (local.get $most)))
        (br_if $ended (i32.ge_u (local.get $at) (local.get $stop)))
        (local.set $next (call $end_of (local.get $at) (local.get $end)))
        (br_if $ended (i32.eqz (local.get $next)))
        (i32.store offset=28 align=1 (local.get $at)
          (call $payload_crc (local.get $at) (local.get $next)))
        (if (i32.eqz (local.get $keeps))
          (then
            (i32.store offset=36 align=1 (local.get $at) (local.get $id0))
            (i32.store offset=40 align=1 (local.get $at) (local.get $id1))
            (i32.store offset=44 align=1 (local.get $at) (local.get $id2))
            (i32.store offset=48 align=1 (local.get $at) (local.get $id3))))
        (local.set $head (call $head (local.get $at)))
        (local.set $tail (call $tail (local.get $head) (local.get $at)))
        (local.set $crc (i32.xor (local.get $tail) (i32.const -1)))
        (i32.store offset=32 align=1 (local.get $at) (local.get $crc))
        (i32.store offset=56 align=1 (local.get $at) (local.get $back))
        (local.set $crc (call $mix (i32.xor (local.get $salt) (local.get $crc))))
        (local.set $crc (call $mix (i32.xor (local.get $crc) (local.get $low))))
        (local.set $crc (call $mix (i32.xor (local.get $crc) (local.get $high))))
        (local.set $crc (call $mix (i32.xor (local.get $crc) (local.get $back))))
        (i32.store offset=60 align=1 (local.get $at) (local.get $crc))
        (if (local.get $sums)
          (then
            (local.set $all
              (call $joined (local.get $all) (local.get $at) (local.get $next)
                (local.get $head) (local.get $tail)))))
        (local.set $bytes (i32.sub (local.get $next) (local.get $at)))
        (local.set $back (i32.add (local.get $back) (local.get $bytes)))
        (local.set $low (i32.add (local.get $low) (local.get $bytes)))
        (local.set $high
          (i32.add (local.get $high) (i32.lt_u (local.get $low) (local.get $bytes))))
        (i32.store (global.get $last) (local.get $at))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (local.set $at (local.get $next))
        (br $entry)))
    (i32.store (global.get $done) (local.get $n))
    (i32.store (global.get $crc) (local.get $all))
    (local.get $at))

  ;; Passes over received entries that are all that they must be: both CRCs, sequence, space, epochs
  ;; from $epoch on that do not fall nor exceed $newest. Ends at the first of which that is not so,
  ;; that says who counts (type 7), or is not all there: those are looked at one by one.
  (func (export "check")
    (param $at i32) (param $end i32) (param $most i32) (param $largest i32)
    (param $id0 i32) (param $id1 i32) (param $id2 i32) (param $id3 i32)
    (param $low i32) (param $high i32) (param $least i32) (param $newest i32)
    (param $all i32)
    (result i32)
    (local $n i32) (local $next i32) (local $its i32) (local $head i32) (local $tail i32)
    (block $ended
      (loop $entry
        (br_if $ended (i32.ge_u (local.get $n) (local.get $most)))
        (local.set $next (call $end_of (local.get $at) (local.get $end)))
        (br_if $ended (i32.eqz (local.get $next)))
        (br_if $ended (i32.ne (i32.load align=1 (local.get $at)) (i32.const 0xdeadbeef)))
        (br_if $ended
          (i32.gt_u (i32.load offset=24 align=1 (local.get $at)) (local.get $largest)))
        (local.set $head (call $head (local.get $at)))
        (local.set $tail (call $tail (local.get $head) (local.get $at)))
        (br_if $ended
          (i32.ne (i32.load offset=32 align=1 (local.get $at))
            (i32.xor (local.get $tail) (i32.const -1))))
        (br_if $ended
          (i32.ne (i32.load offset=28 align=1 (local.get $at))
            (call $payload_crc (local.get $at) (local.get $next))))
        (br_if $ended (i32.ne (i32.load offset=4 align=1 (local.get $at)) (local.get $low)))
        (br_if $ended (i32.ne (i32.load offset=8 align=1 (local.get $at)) (local.get $high)))
        (br_if $ended (i32.eq (i32.load offset=20 align=1 (local.get $at)) (i32.const 7)))
        (br_if $ended (i32.ne (i32.load offset=36 align=1 (local.get $at)) (local.get $id0)))
        (br_if $ended (i32.ne (i32.load offset=40 align=1 (local.get $at)) (local.get $id1)))
        (br_if $ended (i32.ne (i32.load offset=44 align=1 (local.get $at)) (local.get $id2)))
        (br_if $ended (i32.ne (i32.load offset=48 align=1 (local.get $at)) (local.get $id3)))
        (local.set $its (i32.load offset=52 align=1 (local.get $at)))
        (br_if $ended (i32.lt_u (local.get $its) (local.get $least)))
        (br_if $ended (i32.gt_u (local.get $its) (local.get $newest)))
        (local.set $least (local.get $its))
        (local.set $all
          (call $joined (local.get $all) (local.get $at) (local.get $next)
            (local.get $head) (local.get $tail)))
        (local.set $low (i32.add (local.get $low) (i32.const 1)))
        (local.set $high (i32.add (local.get $high) (i32.eqz (local.get $low))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (local.set $at (local.get $next))
        (br $entry)))
    (i32.store (global.get $done) (local.get $n))
    (i32.store (global.get $crc) (local.get $all))
    (i32.store (global.get $epoch) (local.get $least))
    (local.get $at))

  ;; Passes over received entries of any spaces whose bytes are sound: magic, size, both CRCs. Ends
  ;; at the first that is not, that says who counts (type 7), or is not all there.
  (func (export "look")
    (param $at i32) (param $end i32) (param $most i32) (param $largest i32) (param $all i32)
    (result i32)
    (local $n i32) (local $next i32) (local $head i32) (local $tail i32)
    (block $ended
      (loop $entry
        (br_if $ended (i32.ge_u (local.get $n) (local.get $most)))
        (local.set $next (call $end_of (local.get $at) (local.get $end)))
        (br_if $ended (i32.eqz (local.get $next)))
        (br_if $ended (i32.ne (i32.load align=1 (local.get $at)) (i32.const 0xdeadbeef)))
        (br_if $ended
          (i32.gt_u (i32.load offset=24 align=1 (local.get $at)) (local.get $largest)))
        (br_if $ended (i32.eq (i32.load offset=20 align=1 (local.get $at)) (i32.const 7)))
        (local.set $head (call $head (local.get $at)))
        (local.set $tail (call $tail (local.get $head) (local.get $at)))
        (br_if $ended
          (i32.ne (i32.load offset=32 align=1 (local.get $at))
            (i32.xor (local.get $tail) (i32.const -1))))
        (br_if $ended
          (i32.ne (i32.load offset=28 align=1 (local.get $at))
            (call $payload_crc (local.get $at) (local.get $next))))
        (local.set $all
          (call $joined (local.get $all) (local.get $at) (local.get $next)
            (local.get $head) (local.get $tail)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (local.set $at (local.get $next))
        (br $entry)))
    (i32.store (global.get $done) (local.get $n))
    (i32.store (global.get $crc) (local.get $all))
    (local.get $at)))
