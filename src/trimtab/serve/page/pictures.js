// A file that someone gave, as a picture that can be sent; or the words that say why not.
import { bytes } from "./words.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
const LARGEST_FILE = 100e6;  // more than any camera writes; what is larger is not decoded
const THUMB = 480;

/** The bitmap drawn into at most `pixels` pixels, as a file of `type`. */
const drawn = (bitmap, pixels, type) => {
  const scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    const done = (blob) => {
      if (blob) resolve({ blob, width: canvas.width, height: canvas.height });
      else reject(new Error("The picture is not taken: this browser cannot draw it."));
    };
    canvas.toBlob(done, type, 0.92);
  });
};

const encoded = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

/**
 * `{name, url, thumb, width, height, was}`: `url` holds the picture, `thumb` is a small one to show, `was` is what it
 * measured before it was scaled down to `limits.image_pixels`, else null. Throws Error, whose message says why not.
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
    const was = width * height > limits.image_pixels ? { width, height } : null;
    const kept = was ? await drawn(bitmap, limits.image_pixels, file.type === "image/jpeg" ? file.type : "image/png")
      : { blob: file, width, height };
    const url = await encoded(kept.blob);
    if (url.length > limits.body) {
      const most = bytes(limits.body);
      throw new Error(`${name} is not taken: sent, it has ${bytes(url.length)}, and the server takes ${most}.`);
    }
    const small = await drawn(bitmap, THUMB * THUMB, "image/png");  // still, where the file is an animation
    const thumb = URL.createObjectURL(small.blob);
    return { name, url, thumb, width: kept.width, height: kept.height, was };
  } finally {
    bitmap.close();
  }
}
