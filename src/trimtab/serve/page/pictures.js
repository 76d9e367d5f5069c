// A file that someone gave, as a picture that can be sent; or the words that say why not.
import { make } from "./element.js";
import { bytes } from "./words.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
const LARGEST_FILE = 100e6;  // more than any camera writes; what is larger is not decoded
const LONGEST = 50;  // of a picture's sides the longer by the shorter, as the server has it (serve/pictures.py)
const QUALITY = 0.95;
const THUMB = 480;

/** In what a picture of this type is sent where it must be scaled: photographs would be huge as PNG. */
const scaledTo = (type) => (["image/png", "image/jpeg"].includes(type) ? type : "image/webp");

/** The bitmap drawn into at most `pixels` pixels; an image to who cannot see it, called `name`. */
const drawn = (bitmap, pixels, name) => {
  const scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  const canvas = make("canvas", { role: "img", "aria-label": name });
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
};

const filed = (canvas, type) => new Promise((resolve, reject) => {
  const failed = () => reject(new Error("The picture is not taken: this browser cannot scale it down."));
  canvas.toBlob((blob) => (blob ? resolve(blob) : failed()), type, QUALITY);
});

const encoded = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

/**
 * `{name, url, thumb, width, height, was}`: `url` holds the picture, `thumb` is a node that shows it small and still,
 * `was` is what it measured before it was scaled down to `limits.image_pixels`, else null. Throws Error, whose message
 * says why not.
 */
export async function read(file, limits) {
  const name = file.name || "The picture";
  if (!TYPES.includes(file.type)) {
    throw new Error(`${name} is not taken: pictures can be PNG, JPEG, WebP, GIF or BMP.`);
  }
  if (file.size > LARGEST_FILE) {
    throw new Error(`${name} is not taken: it has ${bytes(file.size)}, and the most is ${bytes(LARGEST_FILE)}.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} is not taken: it is damaged, or no picture.`);
  }
  try {
    const { width, height } = bitmap;
    if (Math.max(width, height) > LONGEST * Math.min(width, height)) {
      throw new Error(`${name} is not taken: ${width} × ${height}; the server takes sides of at most 1 to ${LONGEST}.`);
    }
    const was = width * height > limits.image_pixels ? { width, height } : null;
    const less = was && drawn(bitmap, limits.image_pixels, name);
    const url = await encoded(less ? await filed(less, scaledTo(file.type)) : file);
    if (url.length > limits.body) {
      const most = bytes(limits.body);
      throw new Error(`${name} is not taken: sent, it has ${bytes(url.length)}, and the server takes ${most}.`);
    }
    const size = less ? { width: less.width, height: less.height } : { width, height };
    return { name, url, thumb: drawn(bitmap, THUMB * THUMB, name), ...size, was };
  } finally {
    bitmap.close();
  }
}

/** The same picture, shown by a node of its own. */
export const again = (picture) => ({ ...picture, thumb: drawn(picture.thumb, THUMB * THUMB, picture.name) });
