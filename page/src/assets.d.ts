// Files that esbuild puts beside the bundle: what is imported is their address.

declare module "*.min.css" {
  const address: string;
  export default address;
}

declare module "*.wasm" {
  const address: string;
  export default address;
}
