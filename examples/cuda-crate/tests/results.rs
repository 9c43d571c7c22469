//! What the operations give, through the driver: nothing here knows which device it is.

mod device;

use cuda_crate::Vectors;

#[test]
fn saxpy_gives_what_it_says() {
    let vectors = Vectors::new(&device::context()).unwrap();
    let stream = vectors.stream();
    for n in [1, 255, 256, 1000] {
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let x = stream.clone_htod(&x).unwrap();
        let mut y = stream.clone_htod(&vec![0.5f32; n]).unwrap();
        vectors.saxpy(2.0, &x, &mut y).unwrap();
        let y = stream.clone_dtoh(&y).unwrap();
        let wanted: Vec<f32> = (0..n).map(|i| 2.0 * i as f32 + 0.5).collect();
        assert_eq!(y, wanted);
    }
}

#[test]
fn a_sum_is_the_sum() {
    let vectors = Vectors::new(&device::context()).unwrap();
    for n in [1usize, 31, 300, 20_000] {
        // Whole numbers, whose sum is exact in any order.
        let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
        let wanted: f32 = x.iter().sum();
        let x = vectors.stream().clone_htod(&x).unwrap();
        assert_eq!(vectors.sum(&x).unwrap(), wanted, "{n} elements");
    }
}
