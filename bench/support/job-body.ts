/** A job of a catalog, as the API takes it. */
export function toJobBody(n: number): object {
  return {
    product_id: `product-${n}`,
    image_url: `https://images.example.com/catalog/products/${n}/main.jpg`,
    name: `Lamp number ${n}, brass with a linen shade`,
    category: 'lamps',
    brand: 'Lumen',
    price: 59.9,
    currency: 'EUR',
    tags: ['brass', 'linen'],
  };
}
