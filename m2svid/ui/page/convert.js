/** Build this part in its element. */
export async function mount(element) {
  element.textContent = "";
}
