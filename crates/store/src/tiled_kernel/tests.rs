use super::*;
use crate::tile_product::PANEL_ROWS;

#[test]
fn rounds_visit_each_tile_once_and_no_row_twice_at_a_time() {
    for side in 1..12 {
        let rounds = rounds(side);
        let mut seen: Vec<(usize, usize)> = rounds.concat();
        seen.sort_unstable();
        assert_eq!(seen, lower_triangle(side));
        for round in &rounds {
            let mut rows: Vec<usize> = round
                .iter()
                .flat_map(|&(i, j)| if i == j { vec![i] } else { vec![i, j] })
                .collect();
            rows.sort_unstable();
            assert!(rows.windows(2).all(|w| w[0] != w[1]), "{side}: {round:?}");
        }
    }
}

fn kernel(n: usize, tile: usize, folder: &Path) -> (TiledKernel, Mat<f32>) {
    let k = Mat::from_fn(n, n, |i, j| {
        1.0 / (1.0 + (i as f32 - j as f32).abs()) + ((i * j) as f32 * 0.1).sin()
    });
    let array = ZarrArray::<f32>::create(folder, spec(n, tile, Attributes::new())).unwrap();
    for (i, j) in lower_triangle(n.div_ceil(tile)) {
        let mut chunk = vec![0.0; tile * tile];
        for r in 0..tile.min(n - i * tile) {
            for c in 0..tile.min(n - j * tile) {
                chunk[r * tile + c] = k[(i * tile + r, j * tile + c)];
            }
        }
        array.write_chunk(i, j, &chunk).unwrap();
    }
    let kernel = TiledKernel::open_keeping(folder, Access::Map, 0);
    (kernel.unwrap(), k)
}

#[test]
fn products_match_the_dense_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let (tiled, k) = kernel(75, 16, &folder.path().join("k.zarr"));
    let x = Mat::from_fn(75, 6, |i, j| ((i + j * 3) as f32 * 0.3).cos());
    let s = Mat::from_fn(75, 2, |i, j| f32::from(u8::from((i + j) % 3 > 0)));
    let (products, squares) = tiled.multiply(x.as_ref(), s.as_ref()).unwrap();
    let k2 = Mat::from_fn(75, 75, |i, j| k[(i, j)] * k[(i, j)]);
    assert!((products - &k * &x).norm_max() < 1e-4);
    let square = (tiled.unit() * tiled.unit()) as f32;
    assert!((squares * faer::Scale(square) - k2 * &s).norm_max() < 1e-4);
    assert_eq!(tiled.traffic().passes, 1);
    assert_eq!(tiled.traffic().columns, 8);
    assert_eq!(tiled.traffic().bytes_read, 15 * (16 * 16 * 4 + 4));
    let chosen = [3, 17, 15, 74, 40];
    let sub = tiled.submatrix(&chosen).unwrap();
    assert_eq!(sub, Mat::from_fn(5, 5, |i, j| k[(chosen[i], chosen[j])]));
    let columns = tiled.columns(&chosen).unwrap();
    assert_eq!(columns, Mat::from_fn(75, 5, |i, j| k[(i, chosen[j])]));
}

#[test]
fn a_columns_bits_depend_on_neither_its_neighbours_nor_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    // The last row of tiles, and the last of a tile's panels, have 1 row and more.
    for n in [700, 513, 256 + PANEL_ROWS + 1] {
        let (tiled, _) = kernel(n, 256, &folder.path().join(format!("{n}.zarr")));
        let x = Mat::from_fn(n, 83, |i, j| ((i * 7 + j * 31) as f32 * 0.013).cos());
        let none = Mat::<f32>::zeros(n, 0);
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
        };
        let all = pool(2)
            .install(|| tiled.multiply(x.as_ref(), none.as_ref()))
            .unwrap()
            .0;
        for column in [0, 17, 82] {
            for width in [1, 3, 5, 40] {
                let first = column.min(83 - width);
                let some = pool(1)
                    .install(|| tiled.multiply(x.subcols(first, width), none.as_ref()))
                    .unwrap()
                    .0;
                let (want, got) = (all.col_as_slice(column), some.col_as_slice(column - first));
                assert!(
                    want.iter()
                        .zip(got)
                        .all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{column} {width}"
                );
            }
        }
    }
}

#[test]
fn copied_and_kept_tiles_are_the_mapped_ones_and_copied_ones_are_looked_at_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.zarr");
    let (mapped, _) = kernel(75, 16, &path);
    let copied = TiledKernel::open_keeping(&path, Access::Copy, 0).unwrap();
    let kept = TiledKernel::open(&path, Access::Map).unwrap();
    let x = Mat::from_fn(75, 6, |i, j| ((i + j * 3) as f32 * 0.3).cos());
    let s = Mat::from_fn(75, 2, |i, j| f32::from(u8::from((i + j) % 3 > 0)));
    let products = |kernel: &TiledKernel| kernel.multiply(x.as_ref(), s.as_ref());
    let chosen = [3, 74, 40];
    let of = |kernel: &TiledKernel| kernel.submatrix(&chosen).unwrap();
    let want = (products(&mapped).unwrap(), of(&mapped), mapped.traffic());
    for other in [&copied, &kept] {
        let got = (products(other).unwrap(), of(other), other.traffic());
        assert_eq!(want, got);
        assert_eq!(mapped.diagonal(), other.diagonal());
    }
    assert_eq!(mapped.copied_bytes(), 0);
    assert_eq!(kept.copied_bytes(), 15 * (16 * 16 * 4 + 4));
    assert!(lock(&copied.spare).len() * (16 * 16 * 4 + 4) <= copied.copied_bytes());

    let mut bytes = std::fs::read(path.join("c/2/1")).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path.join("c/2/1"), bytes).unwrap();
    let error = products(&copied).unwrap_err();
    assert!(error.to_string().contains("c/2/1"), "{error}");
}

#[test]
fn a_damaged_tile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.zarr");
    let (tiled, _) = kernel(75, 16, &path);
    let victim = path.join("c/2/1");
    let mut bytes = std::fs::read(&victim).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let x = Mat::<f32>::zeros(75, 1);
    for (access, kept) in [
        (Access::Map, 0),
        (Access::Copy, 0),
        (Access::Map, KEPT_BYTES),
    ] {
        let damaged = TiledKernel::open_keeping(&path, access, kept).unwrap();
        let error = damaged.multiply(x.as_ref(), x.as_ref()).unwrap_err();
        assert!(error.to_string().contains("c/2/1"), "{error}");
    }
    drop(tiled);
}
